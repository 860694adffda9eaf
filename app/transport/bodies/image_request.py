"""What is read of a request for detections, and what a route accepts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.errors import InvalidParameter, ServiceError
from app.schemas.options import OptionSet

SentImage = bytes | ServiceError
"""One image, or why it cannot be read: in a batch it fails alone."""


@dataclass(frozen=True, eq=False)
class ImageRequest:
    """The images of a body in the order sent, and its options by their names; `many`: sent as a list."""

    images: list[SentImage]
    options: Mapping[str, object] = field(default_factory=dict)
    many: bool = False

    def one(self) -> bytes:
        """The only image; raises what is wrong with it, and InvalidParameter for a list."""
        if self.many:
            raise InvalidParameter("`images` are several images; send one here, as `image`")
        [image] = self.images
        if isinstance(image, ServiceError):
            raise image
        return image


@dataclass(frozen=True)
class Accepted:
    """What a route accepts in a body: its options, how many parts with images, videos, a raw image."""

    options: type[OptionSet]
    at_most: int = 1
    video: bool = False
    raw: bool = True
