"""Every way a request can fail. An error is a class with a status, a code and a title.

ServiceError
├── InvalidImage          400 invalid_image           the bytes are no image that can be read
├── MalformedRequest      400 malformed_request       the bytes are no HTTP request
├── Unauthorized          401 unauthorized            no key, or a wrong one (+ WWW-Authenticate)
├── ForeignOrigin         403 foreign_origin          a page of another site opens a web socket
├── Forbidden             403 forbidden               off here, or not an address that is allowed
├── NotFound              404 not_found               no such path
├── UnknownModel          404 unknown_model           no model of this name or version is loaded
├── MethodNotAllowed      405 method_not_allowed      the path exists, the method does not
├── Conflict              409 conflict                another load, no room for a model, a name that is taken
├── BodyTooLarge          413 body_too_large          more bytes than RCNN_MAX_BODY_BYTES
├── ImageTooLarge         413 image_too_large         more pixels than RCNN_MAX_PIXELS
├── HeadTooLarge          431 head_too_large          more bytes than a request line and headers may have
├── UnsupportedMediaType  415 unsupported_media_type  a Content-Type that is not accepted
├── HostNotAllowed        421 host_not_allowed        a header Host that RCNN_ALLOWED_HOSTS does not list
├── InvalidParameter      422 invalid_parameter       an option that is unknown, malformed or out of range
├── LoadFailed            422 load_failed             a model could not be loaded; the other one still serves
├── Internal              500 internal                a bug; the reason is only in the log
├── DeadlineExceeded      504 deadline_exceeded       the request's deadline passed
└── Retryable             the same request may succeed later (+ Retry-After)
    ├── Overloaded        429 overloaded              full, or too slow for the request's deadline
    ├── Loading           503 loading                 the model is not ready yet
    ├── Draining          503 draining                the service is stopping
    └── Failing           503 failing                 the model did not load, or no device works
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from models.images import decoder


class ServiceError(Exception):
    """A failure that is reported to the client; `detail` is written for the client."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        """`retry_after`: seconds after which the same request may succeed, if known."""
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        """The response headers of this error."""
        return {}


class InvalidImage(ServiceError):
    """The body is not an image, is damaged, or has a format that is not supported."""

    status, code, title = 400, "invalid_image", "The image cannot be read"


class MalformedRequest(ServiceError):
    """The bytes are no HTTP request; the connection is closed after the response."""

    status, code, title = 400, "malformed_request", "Malformed request"


class Unauthorized(ServiceError):
    """The API key is missing or wrong."""

    status, code, title = 401, "unauthorized", "A valid API key is required"

    def headers(self) -> dict[str, str]:
        """The authentication scheme, as RFC 9110 §11.6.1 requires of every 401."""
        return {"WWW-Authenticate": "Bearer"}


class ForeignOrigin(ServiceError):
    """A page of another site, not in RCNN_ALLOWED_ORIGINS, opens a web socket."""

    status, code, title = 403, "foreign_origin", "Pages of this origin may not open web sockets here"


class Forbidden(ServiceError):
    """RCNN_ADMIN_KEYS is not set, or RCNN_STREAM_ADDRESSES does not have the address of a stream."""

    status, code, title = 403, "forbidden", "Not allowed here"


class NotFound(ServiceError):
    """No resource has this path."""

    status, code, title = 404, "not_found", "Not found"


class UnknownModel(ServiceError):
    """No model of this name or version is loaded."""

    status, code, title = 404, "unknown_model", "No such model here"


class MethodNotAllowed(ServiceError):
    """The resource does not support this method; the header Allow lists those it does."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class Conflict(ServiceError):
    """Another load runs, a model does not fit beside the others or is the default, or a name is taken."""

    status, code, title = 409, "conflict", "Not as things are now"


class BodyTooLarge(ServiceError):
    """The request body is larger than the limit."""

    status, code, title = 413, "body_too_large", "The request body is too large"


class ImageTooLarge(ServiceError):
    """The image has more pixels than the limit."""

    status, code, title = 413, "image_too_large", "The image has too many pixels"


class UnsupportedMediaType(ServiceError):
    """The Content-Type is not accepted."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class HostNotAllowed(ServiceError):
    """The request names a host that is not in RCNN_ALLOWED_HOSTS."""

    status, code, title = 421, "host_not_allowed", "Not a host of this server"


class InvalidParameter(ServiceError):
    """An option is unknown, malformed or outside its range."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class LoadFailed(ServiceError):
    """A model could not be loaded; the others still serve."""

    status, code, title = 422, "load_failed", "The model could not be loaded"


class HeadTooLarge(ServiceError):
    """The request line and headers are too large; the connection is closed after the response."""

    status, code, title = 431, "head_too_large", "The request's head is too large"


class Internal(ServiceError):
    """A bug in the service; the response has the request id, the log has the reason."""

    status, code, title = 500, "internal", "Internal error"


class DeadlineExceeded(ServiceError):
    """The request's deadline passed before its response was ready."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


RETRY_SECONDS = 2.0  # Retry-After of a service that is loading, draining or failing
STOPPING = "the service is stopping; send the request to another instance"


class Retryable(ServiceError):
    """The same request may succeed later; only its subclasses are raised."""

    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, at least 1, so that no client retries in a tight loop."""
        return {"Retry-After": str(max(1, math.ceil(self.retry_after or 1)))}


class Overloaded(Retryable):
    """The queue is full or too long for the deadline, memory is short, or a higher priority came."""

    status, code, title = 429, "overloaded", "Too many requests"


class Loading(Retryable):
    """The model is being loaded or warmed up."""

    status, code, title = 503, "loading", "The model is loading"


class Draining(Retryable):
    """The service is stopping: it finishes accepted requests and refuses new ones."""

    status, code, title = 503, "draining", "The service is stopping"


class Failing(Retryable):
    """The model could not be loaded, or no device works."""

    status, code, title = 503, "failing", "The service is failing"


def problem(error: ServiceError, request_id: str) -> dict[str, str | int]:
    """The RFC 9457 problem document of an error (`application/problem+json`)."""
    return {
        "type": f"urn:rcnn-serve:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }


@dataclass(frozen=True)
class Dialect:
    """How a protocol reports errors: `body` makes the JSON document of an error and the request's id.

    `below`: the paths below which an unknown path is reported so, too.
    """

    body: Callable[[ServiceError, str], Mapping[str, object]]
    media_type: str = "application/json"
    below: tuple[str, ...] = ()


PROBLEMS = Dialect(problem, "application/problem+json")
"""The dialect of all routes but those of other servers' protocols: RFC 9457."""


def from_image_error(error: decoder.ImageError) -> ServiceError:
    """The service's error for a decoder's error, whose message is safe to show to a client."""
    if isinstance(error, decoder.OversizedImage):
        return ImageTooLarge(str(error))
    if isinstance(error, decoder.OutOfMemory):
        return Overloaded(str(error), RETRY_SECONDS)
    return InvalidImage(str(error))


def error_classes() -> list[type[ServiceError]]:
    """Every error that a client can get, by status and code."""
    return sorted(_leaves(ServiceError), key=lambda kind: (kind.status, kind.code))


def errors_markdown() -> str:
    """The documentation's table of errors: status, code, meaning."""
    rows = [f"| {kind.status} | `{kind.code}` | {kind.__doc__} |" for kind in error_classes()]
    return "\n".join(["| Status | Code | Meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _leaves(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from _leaves(child)
