"""Requests, when they are sent again, and what responses mean; no sockets."""

import json
import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import httpx
import tenacity

from rcnn_client.errors import ClientError, NotAnAnswer, Refused, Unreachable, json_object, retry_after
from rcnn_client.options import Options
from rcnn_client.result import Detections, Frame

HttpClient = httpx.Client | httpx.AsyncClient

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds between tries where the service names none; they double
JITTER = 0.25  # of a pause, at random, added to it: clients refused together do not return together
RETRY_STATUSES = (429, 503)
UNTRUSTED = (
    "use a name that is in the certificate, and where this machine does not know who signed it, set "
    "SSL_CERT_FILE to that authority's certificate"
)
# After a time-out the service is there, and a second request would double its load. The other errors are of
# the request or the response itself, and would be met again.
FINAL_ERRORS = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
)


class FrameRange(TypedDict):
    """Of a file's frames, each `every`-th, and at most `max_frames`."""

    every: int
    max_frames: int | None


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds a try, tries after the first, seconds for all tries with their pauses."""

    timeout: float
    retries: int
    deadline: float

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.deadline <= 0 or self.retries < 0:
            raise ValueError(
                f"timeout is {self.timeout}, deadline {self.deadline}, retries {self.retries}; "
                "the first two must be above 0 seconds, retries 0 or more"
            )

    def end(self) -> float:
        """When the deadline of a request that starts now is over, on the monotonic clock."""
        return time.monotonic() + self.deadline

    def rules(self) -> dict[str, Any]:
        """The arguments of tenacity.Retrying but the sleep. After the last try, its outcome counts."""
        lost = tenacity.retry_if_exception(_is_lost)
        busy = tenacity.retry_if_result(lambda response: response.status_code in RETRY_STATUSES)
        tries = tenacity.stop_after_attempt(self.retries + 1)
        return {
            "retry": lost | busy,
            "wait": pause,
            "stop": tries | tenacity.stop_before_delay(self.deadline),
            "retry_error_callback": _last_outcome,
        }

    def limit(self, request: httpx.Request, end: float) -> None:
        """Give the next try its time: no more than is left until `end`."""
        seconds = min(self.timeout, max(0.001, end - time.monotonic()))
        request.extensions["timeout"] = httpx.Timeout(seconds).as_dict()


def pause(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: Retry-After, or twice the pause before; and the jitter."""
    wait = None
    if state.outcome is not None and not state.outcome.failed:
        wait = retry_after(state.outcome.result())
    seconds = _BACKOFF(state) if wait is None else wait
    return seconds * (1 + random.uniform(0, JITTER))  # noqa: S311  # no secret, only jitter


_BACKOFF = tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)


def _is_lost(error: BaseException) -> bool:
    if not isinstance(error, httpx.RequestError) or isinstance(error, FINAL_ERRORS):
        return False
    return _tls_error(error) is None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The fault of TLS behind an error, which would be met again; None for others, and a lost connection.

    It is met when the connection is made. A later one, as of a damaged record, is a lost connection.
    """
    connecting = isinstance(error, httpx.ConnectError)
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return error
    return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not connecting else error


def _last_outcome(state: tenacity.RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None


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
    """The headers of every request."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def detection(http: HttpClient, image: bytes, options: Options) -> httpx.Request:
    """The request of one detection."""
    return _post(http, "detect", image, "application/json", options)


def labels(http: HttpClient, model: str | None) -> httpx.Request:
    """A request for the classes of a model, None for the default one."""
    return http.build_request("GET", "labels", params={"model": model} if model else None)


def frames(http: HttpClient, file: bytes, options: Options, frame_range: FrameRange) -> httpx.Request:
    """The request of a detection in each of a file's frames."""
    return _post(http, "detect/stream", file, "application/x-ndjson", {**options, **frame_range})


def _post(http: HttpClient, path: str, data: bytes, accept: str, options: Mapping[str, Any]) -> httpx.Request:
    params = {key: value for key, value in options.items() if value is not None}
    media = {"Content-Type": "application/octet-stream", "Accept": accept}
    return http.build_request("POST", path, content=data, params=params, headers=media)


def hang_up(response: httpx.Response) -> None:
    """Close the response's own connection: one that was being made as its pool was closed is in no pool."""
    if stream := response.extensions.get("network_stream"):
        stream.close()


def broken_off(response: httpx.Response, error: BaseException | None = None) -> Unreachable:
    """The error of a stream without its last line."""
    reason = f": {str(error) or type(error).__name__}" if error else ""
    url = response.request.url.copy_with(query=None)
    return Unreachable(f"the answer of {url} broke off{reason}; the frames before were complete")


def unreachable(request: httpx.Request, error: BaseException) -> Unreachable:
    """The error of a request without a response."""
    reason = str(error) or type(error).__name__
    advice = "is the service running there?"
    if (fault := _tls_error(error)) is not None:
        untrusted = isinstance(fault, ssl.SSLCertVerificationError)
        advice = UNTRUSTED if untrusted else "does it speak HTTPS? else use http://"
    return Unreachable(f"no answer from {request.url.copy_with(query=None)}: {reason}; {advice}")


def read_json(response: httpx.Response) -> Any:
    """The JSON of a response, whatever it is; raises ClientError. /health answers 503 with its JSON."""
    try:
        answer = response.json()
    except ValueError as error:
        if response.is_error:
            raise Refused(response) from error
        raise NotAnAnswer(f"{response.url} answered, but not in JSON; is it rcnn-serve?") from error
    if response.is_error and (not isinstance(answer, dict) or "status" not in answer or "code" in answer):
        raise Refused(response)
    return answer


def read_labels(response: httpx.Response) -> dict[int, str]:
    """Id to name, of GET /labels."""
    if response.is_error:
        raise Refused(response)
    try:
        return {int(label): str(name) for label, name in json_object(response).items()}
    except ValueError as error:
        raise _unexpected(response, "the labels of a model") from error


def read_result(response: httpx.Response) -> Detections:
    """The detections of POST /detect."""
    if response.is_error:
        raise Refused(response)
    try:
        return _result(json_object(response))
    except (KeyError, TypeError, ValueError) as error:
        raise _unexpected(response, "detections") from error


def read_line(response: httpx.Response, line: str) -> Frame | None:
    """A line of POST /detect/stream: a frame, or None for the last one."""
    try:
        answer = json.loads(line)
        if "end" in answer:
            return None
        outcome = Refused(response, answer["error"]) if "error" in answer else _result(answer)
        return Frame(int(answer["frame"]), answer.get("seconds"), outcome)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unexpected(response, "a line a frame") from error


def _result(answer: dict[str, Any]) -> Detections:
    return Detections(
        boxes=answer["boxes"],
        labels=answer["labels"],
        scores=answer["scores"],
        names=tuple(answer["names"]),
        width=answer["image"]["width"],
        height=answer["image"]["height"],
        model=answer["model"],
        timings_ms=answer["timings_ms"],
        request_id=answer["request_id"],
        model_version=answer.get("model_version", ""),  # a server before 0.1 has none
    )


def _unexpected(response: httpx.Response, expected: str) -> ClientError:
    url = response.url.copy_with(query=None)
    return NotAnAnswer(f"{url} answered {response.status_code}, but not with {expected}; is it rcnn-serve?")
