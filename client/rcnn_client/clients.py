"""The two clients: the same talk, driven on the caller's thread or on asyncio."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from typing import Self, TypeVar, Unpack

import httpx

from rcnn_client import exchange
from rcnn_client.concurrency import bar, check, in_order, in_order_async
from rcnn_client.errors import ClientError, Unreachable
from rcnn_client.exchange import FrameSelection, Options, Picture, Reply, RetryPolicy, Send, Talk
from rcnn_client.result import Frame, Result

T = TypeVar("T")

Outcome = Result | ClientError | OSError
"""Of one image among many: its detections, or why there are none."""

# As many connections as there are requests in flight, each kept for the next request.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


class Client:
    """Asks the service at `url`, from any number of threads. Keeps connections: close it, or use `with`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        deadline: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout`: seconds a try; `retries`: most tries after the first; `deadline`: seconds for them all.

        429 and 503 are tried again when Retry-After says, a lost connection after a growing pause.
        """
        self._patience = RetryPolicy(timeout, retries, deadline)
        self._http = httpx.Client(
            base_url=exchange.checked(url),
            headers=exchange.headers(api_key),
            limits=LIMITS,
            transport=transport,
        )
        self._closed = threading.Event()

    def detect(self, image: Picture, **options: Unpack[Options]) -> Result:
        """Detections of one image, given as the file's bytes or its path; raises ClientError, OSError."""
        return self._detect(image, options, self._closed)

    def detect_many(
        self,
        images: Iterable[Picture],
        in_flight: int = 8,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> Iterator[Outcome]:
        """Results of each image, in order, `in_flight` at a time; of one that fails, its error in its place.

        Images are read as they are needed; `progress` shows a bar on stderr, if that is a terminal.
        """
        check(in_flight)
        return self._many(images, in_flight, progress, options)

    def stream(
        self, file: Picture, every: int = 1, max_frames: int | None = None, **options: Unpack[Options]
    ) -> Generator[Frame, None, None]:
        """Detections of each `every`-th frame of a short video, an animation or a document, as they come.

        A frame that fails alone has its error; raises ClientError, OSError. Who leaves it ends it.
        """
        request = exchange.frames(
            self._http, exchange.content(file), options, FrameSelection(every=every, max_frames=max_frames)
        )
        begun = exchange.ask(request, exchange.read_stream, self._patience, time.monotonic, stream=True)
        with closing(self._hold(begun, self._closed)) as response:
            try:
                for line in response.iter_lines():
                    frame = exchange.read_line(response, line)
                    if frame is None:
                        return
                    yield frame
            except httpx.RequestError as error:
                raise exchange.broken_off(response, error) from error
        raise exchange.broken_off(response)

    def labels(self) -> dict[int, str]:
        """Id to name of the classes of the model that the service runs; raises ClientError."""
        request = self._http.build_request("GET", "labels")
        return self._hold(
            exchange.ask(request, exchange.read_labels, self._patience, time.monotonic), self._closed
        )

    def close(self) -> None:
        """Close the connections; who waits to try again stops waiting."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _detect(self, image: Picture, options: Options, stop: threading.Event) -> Result:
        request = exchange.detection(self._http, exchange.content(image), options)
        return self._hold(exchange.ask(request, exchange.read_result, self._patience, time.monotonic), stop)

    def _many(
        self, images: Iterable[Picture], in_flight: int, progress: bool, options: Options
    ) -> Iterator[Outcome]:
        stop = threading.Event()

        def attempt(image: Picture) -> Outcome:
            try:
                return self._detect(image, options, stop)
            except (ClientError, OSError) as error:
                return error

        with bar(images, progress) as advance:
            for outcome in in_order(attempt, images, in_flight, stop.set):
                advance()
                yield outcome

    def _hold(self, conversation: Talk[T], stop: threading.Event) -> T:
        reply: Reply = None
        while True:
            try:
                step = conversation.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Send):
                reply = self._send(step)
            elif stop.wait(step.seconds):
                raise Unreachable("the client was closed before the service took the image")
            else:
                reply = None

    def _send(self, step: Send) -> httpx.Response | httpx.RequestError:
        try:
            response = self._http.send(step.request, stream=step.stream)
            if response.is_error:
                response.read()
        except httpx.RequestError as error:
            return error
        if self._closed.is_set():
            exchange.hang_up(response)
        return response


class AsyncClient:
    """`Client` for asyncio: same arguments, same results."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 60.0,  # of a try, as of the sync client
        retries: int = 5,
        deadline: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As of `Client`."""
        self._patience = RetryPolicy(timeout, retries, deadline)
        self._http = httpx.AsyncClient(
            base_url=exchange.checked(url),
            headers=exchange.headers(api_key),
            limits=LIMITS,
            transport=transport,
        )

    async def detect(self, image: Picture, **options: Unpack[Options]) -> Result:
        """Detections of one image, given as the file's bytes or its path; raises ClientError, OSError."""
        content = await asyncio.to_thread(exchange.content, image)
        request = exchange.detection(self._http, content, options)
        return await self._hold(exchange.ask(request, exchange.read_result, self._patience, time.monotonic))

    async def detect_many(
        self,
        images: Iterable[Picture],
        in_flight: int = 8,
        progress: bool = False,
        **options: Unpack[Options],
    ) -> AsyncIterator[Outcome]:
        """As of `Client`; who leaves it before its end closes it (`contextlib.aclosing`)."""

        async def attempt(image: Picture) -> Outcome:
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
        """As of `Client`; who leaves it before its end closes it (`contextlib.aclosing`)."""
        content = await asyncio.to_thread(exchange.content, file)
        request = exchange.frames(
            self._http, content, options, FrameSelection(every=every, max_frames=max_frames)
        )
        begun = exchange.ask(request, exchange.read_stream, self._patience, time.monotonic, stream=True)
        async with aclosing(await self._hold(begun)) as response:
            try:
                async for line in response.aiter_lines():
                    frame = exchange.read_line(response, line)
                    if frame is None:
                        return
                    yield frame
            except httpx.RequestError as error:
                raise exchange.broken_off(response, error) from error
        raise exchange.broken_off(response)

    async def labels(self) -> dict[int, str]:
        """Id to name of the classes of the model that the service runs; raises ClientError."""
        request = self._http.build_request("GET", "labels")
        return await self._hold(exchange.ask(request, exchange.read_labels, self._patience, time.monotonic))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _hold(self, conversation: Talk[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = conversation.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Send):
                reply = await self._send(step)
            else:
                await asyncio.sleep(step.seconds)
                reply = None

    async def _send(self, step: Send) -> httpx.Response | httpx.RequestError:
        try:
            response = await self._http.send(step.request, stream=step.stream)
            if response.is_error:
                await response.aread()
            return response
        except httpx.RequestError as error:
            return error
