"""The image or images in a JSON body."""

from pydantic import Field

from app.schemas.limits import MAX_IMAGES
from app.schemas.options import Wire


class ImageItem(Wire):
    """One of several images in JSON."""

    image: str | None = Field(default=None, description="The image file in base64, or a data URL.")
    url: str | None = Field(
        default=None, description="Its http(s) address, if the server allows it (RCNN_FETCH_URLS)."
    )


class ImageBody(Wire):
    """The image or images in a JSON body: one of these."""

    image: str | None = Field(
        default=None,
        description="The image file in base64; a data URL, line breaks, no padding and the alphabet for URLs "
        "are allowed.",
    )
    url: str | None = Field(
        default=None,
        description="The http(s) address of the image, if the server allows it (RCNN_FETCH_URLS).",
    )
    images: list[str | ImageItem] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        description='Several images, each in base64, or as {"image": …} or {"url": …}; answered as by POST '
        "/detect/batch.",
    )
