"""The service as tests meet it: the real app with a detector at the seam, or the real program on a socket."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.chromium import Show

ROOT = Path(__file__).parent.parent


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Return as soon as `condition` holds; fail with `what` was awaited when it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # what a test waits for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s in vain: {what}")


@dataclass(frozen=True)
class Served:
    """A running app, a client of it, and the detector behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    detector: FakeDetector

    async def metric(self, name: str, /, **labels: str) -> float:
        """A sample of /metrics; 0 when it is not there."""
        text = (await self.client.get("/metrics")).text
        wanted = "{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}" if labels else ""
        for line in text.splitlines():
            if line.rpartition(" ")[0] == name + wanted:
                return float(line.rpartition(" ")[2])
        return 0.0

    async def ready(self) -> None:
        """Wait until work is taken."""
        await eventually(lambda: self.app.state.service.state == "ok", "the service is ready")


class AsgiRequest:
    """One request on the app's own ASGI interface: it may send slowly, and leave whenever it likes."""

    def __init__(self, app: FastAPI, url: str, headers: dict[str, str]) -> None:
        path, _, query = url.partition("?")
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._body = b""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.read_all = False
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "root_path": "",
        }
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def problem(self) -> dict[str, Any]:
        """The answer, where it is a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return dict(json.loads(self._body))

    @property
    def answer(self) -> dict[str, Any]:
        """The answer, where it is JSON."""
        assert self.headers["content-type"] == "application/json"
        return dict(json.loads(self._body))

    def send(self, body: bytes, more: bool = False) -> None:
        """Send a piece of the body; `more` of it may come."""
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        """Hang up."""
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def answered(self) -> None:
        """Wait for the answer and the end of the request."""
        await self.ended()
        assert self.status is not None

    async def ended(self) -> None:
        """Wait until the app is done with the request."""
        await asyncio.wait_for(self._task, 20)

    async def _receive(self) -> dict[str, Any]:
        self.read_all = self._inbox.empty()
        return await self._inbox.get()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self._body += message.get("body", b"")


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def _serve(
    detector: FakeDetector | None = None,
    ready: bool = True,
    loader: Callable[[str], FakeDetector] | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    detector = detector or FakeDetector()
    chosen = Settings(**{"drain_seconds": 5, "decode_threads": 2} | settings)
    app = create_app(chosen, detector, loader)
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=20)
    async with app.router.lifespan_context(app), client:
        served = Served(app, client, detector)
        try:
            if ready:
                await served.ready()
            yield served
        finally:
            detector.let_go()


@pytest.fixture(autouse=True)
def _torchs_threads_as_before() -> Iterator[None]:
    """An engine sets them for the whole process; the tests after it would learn with one."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture
def serve() -> Serve:
    """Start the app: `async with serve(detector, max_queue=4) as served`."""
    return _serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The app with default settings and a detector that answers at once."""
    async with _serve() as served:
        yield served


class Program:
    """The server as a process of its own: `serve` with a FakeDetector."""

    command = ("-m", "tests.support.program")

    def __init__(self, *arguments: str, **settings: str) -> None:
        environment = {
            **os.environ,
            "RCNN_PORT": "0",
            **{f"RCNN_{key}".upper(): value for key, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, *self.command, *arguments],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._client: httpx.Client | None = None
        self._making_client = threading.Lock()
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def port(self) -> int:
        return int(self.logged(r"listening on http://[\d.]+:(\d+)")[1])

    @property
    def client(self) -> httpx.Client:
        """A client of the program, for any number of threads."""
        with self._making_client:
            if self._client is None:
                self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
            return self._client

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def logged(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Wait for a log line that the pattern is found in."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found.extend(match for line in self._lines if (match := re.search(pattern, line)))
            return bool(found) or not self._reader.is_alive()

        with self._changed:
            self._changed.wait_for(seen, seconds)
        assert found, f"no line with {pattern!r} in:\n{self.log}"
        return found[0]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()
        if self._client is not None:
            self._client.close()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start the program: `start("--seconds", "0.2", max_queue="4")`; it is killed at the end of the test."""
    programs: list[Program] = []

    def start(*arguments: str, **settings: str) -> Program:
        programs.append(Program(*arguments, **settings))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """One program for the tests of a module that leave it as they found it; it is ready."""
    program = Program(max_body_bytes="20000", max_pixels="1000000")
    program.logged("ready")
    yield program
    program.terminate()
    assert program.ended() == 0
    program.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A Chromium."""
    from tests.support.chromium import (
        chromium,  # playwright takes a second to import, and only the page needs it
    )

    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser: "Browser") -> Iterator["Show"]:
    """What opens the page, see `tests.support.chromium.pages`."""
    from tests.support.chromium import pages

    with pages(browser) as show:
        yield show
