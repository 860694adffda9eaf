"""A conversation with the service, without I/O: which request, when again, and what the answer means.

`ask` is a generator. It yields `Send`, and is sent the response or the httpx.RequestError; it yields `Sleep`,
and is sent None; it returns what was asked for, or raises ClientError. Whoever drives it has a socket and a
clock, and decides nothing.
"""

import json
import os
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import httpx
import numpy as np

from models.detections import Detections
from rcnn_client.errors import ClientError, NotAnAnswer, Refused, Unreachable, json_object, retry_after
from rcnn_client.result import Frame, Result

T = TypeVar("T")

Picture = bytes | str | os.PathLike[str]

FIRST_PAUSE, LONGEST_PAUSE = (
    0.25,
    8.0,
)  # seconds between tries where the service names none; it doubles
SPREAD = 0.25  # of a pause, at random, is waited longer: who was refused together does not come back together
AGAIN = (429, 503)
# The time of a try ran out on a service that is there, and to ask again would double its load; or the request
# or the answer itself is wrong, and would be wrong again.
NOT_AGAIN = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
)


class Options(TypedDict, total=False):
    """Options of one detection; what is left out, or None, comes from the model's card."""

    score_threshold: float | None
    nms_threshold: float | None
    max_detections: int | None
    classes: Sequence[str | int]
    class_agnostic: bool
    size: int | None
    timeout_ms: int | None
    priority: int | None
    tile: int | str | None
    tile_overlap: float | None


class FrameSelection(TypedDict):
    """Of a file's frames, each `every`-th, and at most so many."""

    every: int
    max_frames: int | None


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on: seconds a try, tries after the first, seconds for all of them with their pauses."""

    timeout: float
    retries: int
    deadline: float

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.deadline <= 0 or self.retries < 0:
            raise ValueError(
                f"timeout is {self.timeout}, deadline {self.deadline}, retries {self.retries}; "
                "the first two must be above 0 seconds, retries 0 or more"
            )


@dataclass(frozen=True)
class Send:
    """Send the request, with its own time-outs; answer with the response or the httpx.RequestError.

    `stream`: with a response that is not read yet, unless it is an error.
    """

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


Reply = httpx.Response | httpx.RequestError | None
Talk = Generator[Send | Sleep, Reply, T]


def ask(
    request: httpx.Request,
    read: Callable[[httpx.Response], T],
    patience: RetryPolicy,
    clock: Callable[[], float],
    stream: bool = False,
) -> Talk[T]:
    """Send until there is an answer, or patience ends; what `read` makes of it. Raises ClientError."""
    end = clock() + patience.deadline
    for number in range(patience.retries + 1):
        seconds = min(patience.timeout, max(0.001, end - clock()))
        request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()
        reply = yield Send(request, stream)
        again = pause(reply, number)
        if again is None or number == patience.retries or clock() + again >= end:
            break
        yield Sleep(again)
    if isinstance(reply, httpx.Response):
        return read(reply)
    raise unreachable(request, reply) from reply


def pause(reply: Reply, number: int) -> float | None:
    """Seconds to wait before the request is sent again after try `number`, from 0; None for not again."""
    backoff = min(LONGEST_PAUSE, FIRST_PAUSE * 2**number)
    if isinstance(reply, httpx.Response):
        if reply.status_code not in AGAIN:
            return None
        asked = retry_after(reply)
        seconds = backoff if asked is None else asked
    elif isinstance(reply, NOT_AGAIN):
        return None
    else:
        seconds = backoff
    return seconds * (1 + random.uniform(0, SPREAD))  # noqa: S311  # no secret, only a spread


def checked(url: str) -> httpx.URL:
    """The service's address; raises ValueError for what is none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL ({error}); give one as in http://127.0.0.1:8000") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no http URL; give one as in http://127.0.0.1:8000")
    return parsed


def headers(api_key: str | None) -> dict[str, str]:
    """What every request carries."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def content(image: Picture) -> bytes:
    """The bytes of an image file; raises OSError."""
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def detection(http: httpx.Client | httpx.AsyncClient, image: bytes, options: Options) -> httpx.Request:
    """The request of one detection."""
    return _post(http, "detect", image, "application/json", options)


def frames(
    http: httpx.Client | httpx.AsyncClient, file: bytes, options: Options, which: FrameSelection
) -> httpx.Request:
    """The request of a detection in each of a file's frames."""
    return _post(http, "detect/stream", file, "application/x-ndjson", {**options, **which})


def _post(
    http: httpx.Client | httpx.AsyncClient, path: str, data: bytes, accept: str, options: Mapping[str, Any]
) -> httpx.Request:
    params = {key: value for key, value in options.items() if value is not None}
    media = {"Content-Type": "application/octet-stream", "Accept": accept}
    return http.build_request("POST", path, content=data, params=params, headers=media)


def hang_up(response: httpx.Response) -> None:
    """Close the response's own connection: one that was being made as its pool was closed is in no pool."""
    if stream := response.extensions.get("network_stream"):
        stream.close()


def broken_off(response: httpx.Response, error: BaseException | None = None) -> Unreachable:
    """What to say of a stream that ended before its end."""
    reason = f": {str(error) or type(error).__name__}" if error else ""
    url = response.request.url.copy_with(query=None)
    return Unreachable(f"the answer of {url} broke off{reason}; the frames before were complete")


def unreachable(request: httpx.Request, error: BaseException | None) -> Unreachable:
    """What to say where no answer came."""
    reason = str(error) or type(error).__name__
    return Unreachable(
        f"no answer from {request.url.copy_with(query=None)}: {reason}; is the service running there?"
    )


def read_labels(response: httpx.Response) -> dict[int, str]:
    """Id to name, of GET /labels."""
    if response.is_error:
        raise Refused(response)
    try:
        return {int(label): str(name) for label, name in json_object(response).items()}
    except ValueError as error:
        raise _strange(response, "the labels of a model") from error


def read_result(response: httpx.Response) -> Result:
    """The detections of POST /detect."""
    if response.is_error:
        raise Refused(response)
    try:
        return _result(json_object(response))
    except (KeyError, TypeError, ValueError) as error:
        raise _strange(response, "detections") from error


def read_stream(response: httpx.Response) -> httpx.Response:
    """The answer of POST /detect/stream, whose lines are still to come."""
    if response.is_error:
        raise Refused(response)
    return response


def read_line(response: httpx.Response, line: str) -> Frame | None:
    """A line of it: a frame, or None for the last one."""
    try:
        answer = json.loads(line)
        if "end" in answer:
            return None
        outcome = Refused(response, answer["error"]) if "error" in answer else _result(answer)
        return Frame(int(answer["frame"]), answer.get("seconds"), outcome)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _strange(response, "a line a frame") from error


def _result(answer: dict[str, Any]) -> Result:
    return Result(
        detections=Detections(
            boxes=np.array(answer["boxes"], np.float32).reshape(-1, 4),
            labels=np.array(answer["labels"], np.int64),
            scores=np.array(answer["scores"], np.float32),
        ),
        names=tuple(answer["names"]),
        width=answer["image"]["width"],
        height=answer["image"]["height"],
        model=answer["model"],
        timings_ms=answer["timings_ms"],
        request_id=answer["request_id"],
        model_version=answer.get("model_version", ""),  # a server before 0.1 has none
    )


def _strange(response: httpx.Response, wanted: str) -> ClientError:
    url = response.url.copy_with(query=None)
    return NotAnAnswer(f"{url} answered {response.status_code}, but not with {wanted}; is it rcnn-serve?")
