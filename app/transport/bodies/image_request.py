"""What is read of a request for detections, and what a route accepts."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.errors import InvalidParameter, ServiceError
from app.schemas.options import OptionSet

SentImage = bytes | ServiceError
"""One image, or why it cannot be read: in a batch it fails alone."""


@dataclass(frozen=True, eq=False)
class ImageRequest:
    """The images of a body in the order sent, and its options by their names; `many`: sent as a list.

    `other`: the protocol of the body, if it is not ours; `options` are then its keys beside the image.
    """

    images: list[SentImage]
    options: Mapping[str, object] = field(default_factory=dict)
    many: bool = False
    other: "OtherProtocol | None" = None

    def one(self) -> bytes:
        """The only image; raises what is wrong with it, and InvalidParameter for a list."""
        if self.many:
            raise InvalidParameter("`images` are several images; send one here, as `image`")
        [image] = self.images
        if isinstance(image, ServiceError):
            raise image
        return image


@dataclass(frozen=True)
class OtherProtocol:
    """A protocol with a route of ours: its JSON has the key `image` and one of `marks`, which ours never has.

    `respond` answers its requests; the options are those of the query.
    """

    image: str
    marks: frozenset[str]
    respond: Callable[[Request, ImageRequest, Any], Awaitable[Response]]

    def owns(self, values: Mapping[str, object]) -> bool:
        """Whether a JSON body of these keys is a request of the protocol."""
        return self.image in values and not self.marks.isdisjoint(values)


@dataclass(frozen=True)
class Accepted:
    """What a route accepts in a body: its options, how many parts with images, videos, a raw image.

    `other`: the protocol that has the same route.
    """

    options: type[OptionSet]
    at_most: int = 1
    video: bool = False
    raw: bool = True
    other: OtherProtocol | None = None
