"""One server with the real model `shapes` for all examples, and a page of another origin."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.support.chromium import served
from tests.support.served import ROOT

EXAMPLES = ROOT / "examples"
KEY = "change-me"  # the key in the configurations


class Quiet(SimpleHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="package")
def origin() -> Iterator[str]:
    """The JavaScript page on an origin of its own."""
    handler = partial(Quiet, directory=str(EXAMPLES / "javascript"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="package")
def server(origin: str) -> Iterator[str]:
    """The address of a server with `shapes`."""
    with served(None, model="shapes", device="cpu", allowed_origins=origin) as url:
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}health/ready").status_code != 200:
            assert time.monotonic() < deadline, "shapes is not loaded"
        yield url.rstrip("/")


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The same, as RCNN_URL; this folder is empty but for `samples`."""
    monkeypatch.setenv("RCNN_URL", server)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").symlink_to(ROOT / "app/samples")
    return server
