"""The two clients, for threads and for asyncio."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from typing import Any, Self, Unpack

import httpx
from tenacity import AsyncRetrying, Retrying

from rcnn_client import defaults, exchange
from rcnn_client.concurrency import bar, check, in_order, in_order_async
from rcnn_client.errors import ClientError, Refused, Unreachable
from rcnn_client.exchange import FrameRange, RetryPolicy
from rcnn_client.images import Picture, content
from rcnn_client.options import Options
from rcnn_client.result import Detections, Frame

AttemptResult = Detections | ClientError | OSError
"""Of one image among many: its detections, or why there are none."""

# As many connections as there are requests in flight, each kept for the next request.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


class Client:
    """A client of the service at `url`, for any number of threads. Close it, or use `with`.

    Without an argument, `url` is RCNN_URL of the environment, or http://127.0.0.1:8000, and `api_key` is
    RCNN_API_KEY.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        deadline: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout`: seconds a try; `retries`: most tries after the first; `deadline`: seconds for them all.

        429 and 503 are tried again after Retry-After, a lost connection after a growing pause.
        """
        self._policy = RetryPolicy(timeout, retries, deadline)
        self._http = httpx.Client(
            base_url=exchange.checked(defaults.url(url)),
            headers=exchange.headers(defaults.api_key(api_key)),
            limits=LIMITS,
            transport=transport,
        )
        self._closed = threading.Event()

    def detect(self, image: Picture, **options: Unpack[Options]) -> Detections:
        """Detections of one image, see `Picture` for what it may be.

        Raises ClientError; OSError for a file, TypeError and ValueError for what is no image.
        """
        return self._detect(image, options, self._closed)

    def detect_many(
        self,
        images: Iterable[Picture],
        in_flight: int = 8,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Iterator[AttemptResult]:
        """Results of each image, in order, `in_flight` at a time; of one that fails, its error in its place.

        Images are read as they are needed; `progress` shows a bar on stderr, if that is a terminal (rich).
        """
        check(in_flight)
        return self._many(images, in_flight, progress, options)

    def stream(
        self, file: Picture, every: int = 1, max_frames: int | None = None, **options: Unpack[Options]
    ) -> Generator[Frame, None, None]:
        """Detections of each `every`-th frame of a short video, an animation or a document, as they come.

        A frame that fails alone has its error; raises ClientError, OSError. Closing the generator ends it.
        """
        frame_range = FrameRange(every=every, max_frames=max_frames)
        request = exchange.frames(self._http, content(file), options, frame_range)
        with closing(self._send(request, self._closed, stream=True)) as response:
            if response.is_error:
                raise Refused(response)
            try:
                for line in response.iter_lines():
                    frame = exchange.read_line(response, line)
                    if frame is None:
                        return
                    yield frame
            except httpx.RequestError as error:
                raise exchange.broken_off(response, error) from error
        raise exchange.broken_off(response)

    def labels(self, model: str | None = None) -> dict[int, str]:
        """Id to name of the classes of a model, by default the service's default one; raises ClientError."""
        request = exchange.labels(self._http, model)
        return exchange.read_labels(self._send(request, self._closed))

    def get(self, path: str) -> Any:
        """The JSON of GET `path` (health, models, …), tried once; raises ClientError."""
        try:
            return exchange.read_json(self._http.get(path, timeout=self._policy.timeout))
        except httpx.RequestError as error:
            raise exchange.unreachable(error.request, error) from error

    def close(self) -> None:
        """Close the connections; a request that waits for its next try fails now."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _detect(self, image: Picture, options: Options, stop: threading.Event) -> Detections:
        request = exchange.detection(self._http, content(image), options)
        return exchange.read_result(self._send(request, stop))

    def _many(
        self, images: Iterable[Picture], in_flight: int, progress: bool, options: Options
    ) -> Iterator[AttemptResult]:
        stop = threading.Event()

        def attempt(image: Picture) -> AttemptResult:
            try:
                return self._detect(image, options, stop)
            except (ClientError, OSError) as error:
                return error

        with bar(images, progress) as advance:
            for outcome in in_order(attempt, images, in_flight, stop.set):
                advance()
                yield outcome

    def _send(self, request: httpx.Request, stop: threading.Event, stream: bool = False) -> httpx.Response:
        """The response of the last try; an error is read, a stream is not. Raises Unreachable."""
        end = self._policy.end()

        def attempt() -> httpx.Response:
            self._policy.limit(request, end)
            response = self._http.send(request, stream=stream)
            if response.is_error:
                response.read()
            return response

        def sleep(seconds: float) -> None:
            if stop.wait(seconds):
                raise Unreachable("the client was closed before the service took the image")

        try:
            response = Retrying(sleep=sleep, **self._policy.rules())(attempt)
        except httpx.RequestError as error:
            raise exchange.unreachable(request, error) from error
        if self._closed.is_set():
            exchange.hang_up(response)
        return response


class AsyncClient:
    """`Client` for asyncio: same arguments, same results."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,  # of a try, as of the sync client
        retries: int = 5,
        deadline: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As of `Client`."""
        self._policy = RetryPolicy(timeout, retries, deadline)
        self._http = httpx.AsyncClient(
            base_url=exchange.checked(defaults.url(url)),
            headers=exchange.headers(defaults.api_key(api_key)),
            limits=LIMITS,
            transport=transport,
        )

    async def detect(self, image: Picture, **options: Unpack[Options]) -> Detections:
        """Detections of one image, see `Picture` for what it may be.

        Raises ClientError; OSError for a file, TypeError and ValueError for what is no image.
        """
        data = await asyncio.to_thread(content, image)
        request = exchange.detection(self._http, data, options)
        return exchange.read_result(await self._send(request))

    async def detect_many(
        self,
        images: Iterable[Picture],
        in_flight: int = 8,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> AsyncIterator[AttemptResult]:
        """As of `Client`; close it when you leave it early (`contextlib.aclosing`)."""

        async def attempt(image: Picture) -> AttemptResult:
            try:
                return await self.detect(image, **options)
            except (ClientError, OSError) as error:
                return error

        with bar(images, progress) as advance:
            async for outcome in in_order_async(attempt, images, in_flight):
                advance()
                yield outcome

    async def stream(
        self, file: Picture, every: int = 1, max_frames: int | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Frame, None]:
        """As of `Client`; close it when you leave it early (`contextlib.aclosing`)."""
        data = await asyncio.to_thread(content, file)
        frame_range = FrameRange(every=every, max_frames=max_frames)
        request = exchange.frames(self._http, data, options, frame_range)
        async with aclosing(await self._send(request, stream=True)) as response:
            if response.is_error:
                raise Refused(response)
            try:
                async for line in response.aiter_lines():
                    frame = exchange.read_line(response, line)
                    if frame is None:
                        return
                    yield frame
            except httpx.RequestError as error:
                raise exchange.broken_off(response, error) from error
        raise exchange.broken_off(response)

    async def labels(self, model: str | None = None) -> dict[int, str]:
        """As of `Client`."""
        request = exchange.labels(self._http, model)
        return exchange.read_labels(await self._send(request))

    async def get(self, path: str) -> Any:
        """As of `Client`."""
        try:
            return exchange.read_json(await self._http.get(path, timeout=self._policy.timeout))
        except httpx.RequestError as error:
            raise exchange.unreachable(error.request, error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: httpx.Request, stream: bool = False) -> httpx.Response:
        end = self._policy.end()

        async def attempt() -> httpx.Response:
            self._policy.limit(request, end)
            response = await self._http.send(request, stream=stream)
            if response.is_error:
                await response.aread()
            return response

        try:
            return await AsyncRetrying(sleep=asyncio.sleep, **self._policy.rules())(attempt)
        except httpx.RequestError as error:
            raise exchange.unreachable(request, error) from error
