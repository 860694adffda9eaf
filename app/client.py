"""Python client of the service, sync and async: bytes or a file in, typed detections out.

    with Client("http://127.0.0.1:8000") as client:
        result = client.detect("photo.jpg", score_threshold=0.7, classes=["person"])
        print(result.names, result.boxes)

ClientError
├── Unreachable    no answer came: the service is stopped, the address wrong, or the time ran out
├── Refused        the service answered with a problem: status, code, detail, request_id, retry_after
└── NotAnAnswer    something answered, but not this service
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import httpx
import numpy as np
import numpy.typing as npt

from models.detections import Detections

MAX_PAUSE = 30.0  # seconds; no Retry-After is slept through for longer

Picture = bytes | str | os.PathLike[str]


class ClientError(Exception):
    """The service gave no detections; the text says why."""


class Unreachable(ClientError):
    """No answer came: the service is stopped, the address is wrong, or the time ran out."""


class NotAnAnswer(ClientError):
    """Something answered, but not with what POST /detect promises."""


class Refused(ClientError):
    """The service answered with a problem (RFC 9457); branch on `code`."""

    def __init__(self, response: httpx.Response) -> None:
        problem = _json(response)
        self.status = response.status_code
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail") or problem.get("title") or response.reason_phrase)
        self.request_id = response.headers.get("X-Request-ID", "")
        self.retry_after = _seconds(response)
        super().__init__(f"{self.detail} ({self.status} {self.code})")


class Options(TypedDict, total=False):
    """Options of one detection; what is left out, or None, comes from the model's card."""

    score_threshold: float | None
    nms_threshold: float | None
    max_detections: int | None
    classes: Sequence[str | int]
    class_agnostic: bool
    size: int | None
    timeout_ms: int | None
    tile: int | str | None
    tile_overlap: float | None


@dataclass(frozen=True, eq=False)
class Result:
    """Detections of one image, best first: boxes (N, 4) xyxy in pixels of the image as displayed."""

    detections: Detections
    names: tuple[str, ...]
    width: int
    height: int
    model: str
    timings_ms: Mapping[str, float]
    request_id: str = ""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) float32, x1 y1 x2 y2 in pixels."""
        return self.detections.boxes

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) int64 class ids."""
        return self.detections.labels

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) float32, descending."""
        return self.detections.scores

    def __len__(self) -> int:
        return len(self.detections)

    def to_dict(self) -> dict[str, Any]:
        """The answer of POST /detect, as plain values."""
        return {
            "boxes": self.boxes.astype(np.float64).round(3).tolist(),
            "labels": self.labels.tolist(),
            "scores": self.scores.astype(np.float64).round(6).tolist(),
            "names": list(self.names),
            "image": {"width": self.width, "height": self.height},
            "model": self.model,
            "box_format": "xyxy",
            "timings_ms": dict(self.timings_ms),
            **({"request_id": self.request_id} if self.request_id else {}),
        }


class Client:
    """Asks the service at `url`. Keeps connections: use one for many images, and close it, or use `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout`: seconds a try; `retries`: how often 429 and 503 are waited out, as Retry-After says."""
        self._http = httpx.Client(
            base_url=_checked(url), headers=_headers(api_key), timeout=timeout, transport=transport
        )
        self._retries = retries

    def detect(self, image: Picture, **options: Unpack[Options]) -> Result:
        """Detections of one image, given as the file's bytes or its path; raises ClientError, OSError."""
        request = _request(self._http, _read(image), options)
        response = self._send(request)
        for _ in range(self._retries):
            if (seconds := _pause(response)) is None:
                break
            time.sleep(seconds)
            response = self._send(request)
        return _result(response)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except httpx.HTTPError as error:
            raise _unreachable(request, error) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """`Client` for asyncio: same arguments, same results."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`timeout`: seconds a try; `retries`: how often 429 and 503 are waited out, as Retry-After says."""
        self._http = httpx.AsyncClient(
            base_url=_checked(url), headers=_headers(api_key), timeout=timeout, transport=transport
        )
        self._retries = retries

    async def detect(self, image: Picture, **options: Unpack[Options]) -> Result:
        """Detections of one image, given as the file's bytes or its path; raises ClientError, OSError."""
        content = await asyncio.to_thread(_read, image)
        request = _request(self._http, content, options)
        response = await self._send(request)
        for _ in range(self._retries):
            if (seconds := _pause(response)) is None:
                break
            await asyncio.sleep(seconds)
            response = await self._send(request)
        return _result(response)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request)
        except httpx.HTTPError as error:
            raise _unreachable(request, error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL ({error}); give one as in http://127.0.0.1:8000") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is no http URL; give one as in http://127.0.0.1:8000")
    return parsed


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _read(image: Picture) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _request(http: httpx.Client | httpx.AsyncClient, content: bytes, options: Options) -> httpx.Request:
    params: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
    return http.build_request("POST", "detect", content=content, params=params, headers=headers)


def _unreachable(request: httpx.Request, error: httpx.HTTPError) -> Unreachable:
    reason = str(error) or type(error).__name__
    return Unreachable(
        f"no answer from {request.url.copy_with(query=None)}: {reason}; is the service running there?"
    )


def _pause(response: httpx.Response) -> float | None:
    """Seconds to wait before the same request is worth sending again; None when it is not."""
    if response.status_code not in (429, 503):
        return None
    seconds = _seconds(response)
    return min(1.0 if seconds is None else seconds, MAX_PAUSE)


def _seconds(response: httpx.Response) -> float | None:
    """Retry-After in seconds; None where there is none, or a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _json(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a response; empty when it is none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _result(response: httpx.Response) -> Result:
    if response.is_error:
        raise Refused(response)
    answer = _json(response)
    try:
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
        )
    except (KeyError, TypeError, ValueError) as error:
        url = response.url.copy_with(query=None)
        text = f"{url} answered {response.status_code}, but not with detections; is it rcnn-serve?"
        raise NotAnAnswer(text) from error
