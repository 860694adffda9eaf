"""The page in a real Chromium, against the real app on a socket; no test may leave a console error."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
import uvicorn
from PIL import Image as pillow
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    WebSocket,
    expect,
    sync_playwright,
)

from app.http_server.connections import Connections
from app.http_server.websocket_protocol import BoundedWebSocket
from app.main import create_app
from app.settings.settings import Settings
from models.images.drawing import PALETTE
from tests.support.fakes import FINDS, FakeDetector, picture

expect.set_options(timeout=20_000)  # ms, as long as `eventually` waits; Playwright's own are 5000

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a clock
    "--use-fake-ui-for-media-stream",  # and may be used
)
SQUARE, DISC, KITE = (PALETTE[label] for label in (1, 2, 4))
SQUARE_BOX, DISC_BOX, KITE_BOX = (box for _, _, box in FINDS)
FAULTS = ("status of", "response code:")  # how the console reports the status of an answer
OBJECTS = ("Square 0.94", "disc 0.75")  # those of FINDS at the threshold of the card
NOON = 1_800_000_000_000  # ms; where a page's clock is stopped


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a camera."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def served(detector: FakeDetector | None, **settings: Any) -> Iterator[str]:
    """The app on a socket of its own; its URL. With `sockets=False` it knows no web sockets."""
    sockets = BoundedWebSocket if settings.pop("sockets", True) else "none"
    loader = settings.pop("loader", None)
    app = create_app(Settings(**settings), detector, loader)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws=sockets))
    server.server_state = Connections(app.state.service.metrics, limit=100)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            if detector:
                detector.let_go()
            server.should_exit = True
            thread.join()


def on_the_device(detector: FakeDetector, batches: int) -> None:
    """Wait until so many batches have reached the detector."""
    deadline = time.monotonic() + 20
    while len(detector.batches) < batches:
        assert time.monotonic() < deadline, (
            f"{len(detector.batches)} batches reached the device, not {batches}"
        )
        time.sleep(0.005)


@dataclass
class Shown:
    """An open page, with what it sent and the errors in its console."""

    page: Page
    url: str
    requests: list[Request] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)
    sockets: list[WebSocket] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)  # sent over the sockets
    in_flight: int = 0  # of POST /detect
    most_in_flight: int = 0

    def listen(self) -> None:
        """Keep what the page sends and the errors in its console."""

        def console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.console_errors.append(message.text)

        def add_error(error: Error) -> None:
            self.console_errors.append(str(error))

        def send(request: Request) -> None:
            self.requests.append(request)
            self.in_flight += request.method == "POST"
            self.most_in_flight = max(self.most_in_flight, self.in_flight)

        def end(request: Request) -> None:
            self.in_flight -= request.method == "POST"

        def open_socket(opened: WebSocket) -> None:
            self.sockets.append(opened)
            opened.on("framesent", keep_text)

        def keep_text(payload: str | bytes) -> None:
            if isinstance(payload, str):
                self.texts.append(json.loads(payload))

        self.page.on("websocket", open_socket)
        self.page.on("console", console)
        self.page.on("pageerror", add_error)
        self.page.on("request", send)
        self.page.on("requestfinished", end)
        self.page.on("requestfailed", end)

    def choose(self, data: bytes, name: str = "picture.png", type: str = "image/png") -> None:
        """Choose a file."""
        self.page.set_input_files("#file", {"name": name, "mimeType": type, "buffer": data})

    def options(self) -> None:
        """Open the options that are folded away."""
        self.page.locator("#more > summary").click()

    def detect(self) -> None:
        """Choose a picture of 640 x 480 and wait for the objects in it."""
        self.choose(picture(640, 480))
        self.lists(*OBJECTS)

    def lists(self, *rows: str) -> None:
        """Wait until these are the objects listed."""
        names = self.page.locator(".found .name"), self.page.locator(".found .score")
        expect(names[0]).to_have_text([row.split()[0] for row in rows])
        expect(names[1]).to_have_text([row.split()[1] for row in rows])

    @property
    def queries(self) -> list[dict[str, str]]:
        """The options of every POST /detect so far."""
        queries = [urlsplit(request.url).query for request in self.requests if request.method == "POST"]
        return [{name: ",".join(values) for name, values in parse_qs(query).items()} for query in queries]

    def canvas(self) -> npt.NDArray[np.int64]:
        """The canvas over the image, as RGBA (height, width, 4)."""
        data = self.page.evaluate("document.getElementById('boxes').toDataURL()")
        with pillow.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as drawn:
            return np.asarray(drawn.convert("RGBA"), np.int64)


Show = Callable[..., Shown]


@contextmanager
def pages(browser: Browser) -> Iterator[Show]:
    """What opens the page: `show(detector, faults=[413], width=390, max_pixels=4096)`.

    `faults` are what its console may report: statuses of answers, or `ERR_…` of the network.
    """
    with ExitStack() as stack:
        opened: list[tuple[Shown, list[int | str]]] = []

        def show(detector: FakeDetector | None = None, /, **options: Any) -> Shown:
            faults, width = options.pop("faults", []), options.pop("width", 1280)
            context = {"viewport": {"width": width, "height": 900}, **options.pop("context", {})}
            url = stack.enter_context(served(detector or FakeDetector(), **options))
            page = stack.enter_context(browser.new_context(**context)).new_page()
            shown = Shown(page, url)
            shown.listen()
            opened.append((shown, faults))
            page.goto(url)
            return shown

        yield show
        for shown, faults in opened:
            expected = tuple(f"{prefix} {fault}" for fault in faults for prefix in FAULTS)
            expected += tuple(fault for fault in faults if isinstance(fault, str))
            assert [
                text for text in shown.console_errors if not any(fault in text for fault in expected)
            ] == []
            foreign = [
                request.url
                for request in shown.requests
                if not request.url.startswith((shown.url, "blob:", "data:"))
            ]
            assert foreign == []


def drawn(canvas: npt.NDArray[np.int64], colour: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Where the canvas has this colour, opaque."""
    rgba = np.array([*colour, 255])
    same: npt.NDArray[np.bool_] = np.abs(canvas - rgba).max(axis=2) <= 3
    return same


def check_box(
    canvas: npt.NDArray[np.int64], colour: tuple[int, int, int], box: tuple[float, ...], ratio: float = 1
) -> None:
    """The box, in fractions of the image, is drawn where it belongs to within 1.5 CSS pixels."""
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (value * side for value, side in zip(box, (width, height) * 2, strict=True))
    mask = drawn(canvas, colour)
    across = np.flatnonzero(mask[round(y1 + 0.85 * (y2 - y1))])  # low enough to miss the tags
    down = np.flatnonzero(mask[:, round(x1 + 0.96 * (x2 - x1))])
    assert abs(across.min() + 0.5 - x1) <= 1.5 * ratio
    assert abs(across.max() + 0.5 - min(x2, width - ratio)) <= 1.5 * ratio
    assert abs(down.min() + 0.5 - y1) <= 1.5 * ratio
    assert abs(down.max() + 0.5 - y2) <= 1.5 * ratio
    assert not mask[round(y1 + 0.85 * (y2 - y1)), round(x1 + 5 * ratio) : round(x2 - 5 * ratio)].any()
