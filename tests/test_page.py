"""The page in a real Chromium, against the real app on a socket; no test may leave a console error."""

import base64
import io
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from PIL import Image as pillow
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, expect, sync_playwright
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from models.drawing import PALETTE
from tests.fakes import FINDS, FakeDetector, picture

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SQUARE, DISC, KITE = (PALETTE[label] for label in (1, 2, 4))
SQUARE_BOX, DISC_BOX, KITE_BOX = (box for _, _, box in FINDS)
NOON = 1_800_000_000_000  # ms; where a page's clock is stopped

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def served(detector: FakeDetector, **settings: Any) -> Iterator[str]:
    """The app on a socket of its own; its URL."""
    app = create_app(Settings(**settings), detector)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
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
    """A page as a person has it before them, with what it sent and what it complained of."""

    page: Page
    url: str
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Keep what the page sends and what it complains of."""

        def console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(message.text)

        def complain(error: Error) -> None:
            self.complaints.append(str(error))

        def send(request: Request) -> None:
            self.requests.append(request)

        self.page.on("console", console)
        self.page.on("pageerror", complain)
        self.page.on("request", send)

    def give(self, data: bytes, name: str = "picture.png", type: str = "image/png") -> None:
        """Pick a file."""
        self.page.set_input_files("#file", {"name": name, "mimeType": type, "buffer": data})

    def found(self, *rows: str) -> None:
        """Wait until these are the objects listed."""
        names = self.page.locator(".found .name"), self.page.locator(".found .score")
        expect(names[0]).to_have_text([row.split()[0] for row in rows])
        expect(names[1]).to_have_text([row.split()[1] for row in rows])

    @property
    def asked(self) -> list[dict[str, str]]:
        """The options of every POST /detect so far."""
        queries = [urlsplit(request.url).query for request in self.requests if request.method == "POST"]
        return [{name: ",".join(values) for name, values in parse_qs(query).items()} for query in queries]

    def canvas(self) -> npt.NDArray[np.int64]:
        """The canvas over the image, as RGBA (height, width, 4)."""
        data = self.page.evaluate("document.getElementById('boxes').toDataURL()")
        with pillow.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as drawn:
            return np.asarray(drawn.convert("RGBA"), np.int64)


Show = Callable[..., Shown]


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Open the page: `show(detector, faults=[413], width=390, max_pixels=4096)`; the faults are expected."""
    with ExitStack() as stack:
        opened: list[tuple[Shown, list[int]]] = []

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
            expected = tuple(f"status of {status}" for status in faults)
            assert [text for text in shown.complaints if not any(fault in text for fault in expected)] == []
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


# -- from an image to boxes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "ratio"), [(390, 3), (820, 2), (1440, 1)])
def test_boxes_lie_at_the_right_pixels(show: Show, width: int, ratio: int) -> None:
    shown = show(width=width, context={"device_scale_factor": ratio})
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    canvas = shown.canvas()
    photo, over = (shown.page.locator(f"#{name}").bounding_box() for name in ("photo", "boxes"))
    assert photo == over
    assert over is not None
    assert canvas.shape[:2] == (round(over["height"] * ratio), round(over["width"] * ratio))
    assert over["width"] / over["height"] == pytest.approx(640 / 480, abs=0.01)
    check_box(canvas, SQUARE, SQUARE_BOX, ratio)
    check_box(canvas, DISC, DISC_BOX, ratio)
    assert not drawn(canvas, KITE).any()
    expect(shown.page.locator("#caption-text")).to_have_text("picture.png · 640 \u00d7 480")
    expect(shown.page.locator("#boxes")).to_have_attribute(
        "aria-label", "2 objects drawn over the image; the list names them"
    )
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_boxes_follow_the_window(show: Show) -> None:
    shown = show(width=1280)
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    before = shown.canvas().shape
    shown.page.set_viewport_size({"width": 500, "height": 900})
    shown.page.wait_for_function(f"document.getElementById('boxes').width < {before[1] - 100}")
    check_box(shown.canvas(), DISC, DISC_BOX)


def test_a_turned_photo_has_its_boxes_as_it_is_displayed(show: Show) -> None:
    file = io.BytesIO()
    exif = pillow.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    pillow.new("RGB", (640, 480), "grey").save(file, "JPEG", exif=exif)
    shown = show()
    shown.give(file.getvalue(), "turned.jpg", "image/jpeg")
    shown.found("Square 0.94", "disc 0.75")
    canvas = shown.canvas()
    assert canvas.shape[1] / canvas.shape[0] == pytest.approx(480 / 640, abs=0.01)
    check_box(canvas, SQUARE, SQUARE_BOX)
    expect(shown.page.locator("#caption-text")).to_have_text("turned.jpg · 480 \u00d7 640")


def test_a_picture_that_the_browser_cannot_read_is_shown_all_the_same(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480, "TIFF"), "scan.tiff", "image/tiff")
    shown.found("Square 0.94", "disc 0.75")
    assert shown.page.evaluate("document.getElementById('photo').naturalWidth") == 640
    check_box(shown.canvas(), SQUARE, SQUARE_BOX)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_may_be_dropped_or_pasted(show: Show, event: str) -> None:
    shown = show()
    content = base64.b64encode(picture(640, 480)).decode()
    transfer = shown.page.evaluate_handle(
        """(content) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File(["notes"], "notes.txt", { type: "text/plain" }));
            transfer.items.add(new File([bytes], "given.png", { type: "image/png" }));
            return transfer;
        }""",
        content,
    )
    if event == "drop":
        shown.page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
        expect(shown.page.locator("body")).to_have_class("dragging")
        shown.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
        expect(shown.page.locator("body")).not_to_have_class("dragging")
    else:
        shown.page.evaluate(
            "(transfer) => window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }))",
            transfer,
        )
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#caption-text")).to_have_text("given.png · 640 \u00d7 480")


def test_samples_are_offered(show: Show) -> None:
    shown = show()
    listed = httpx.get(f"{shown.url}samples").json()["samples"]
    expect(shown.page.locator(".sample")).to_have_count(len(listed))
    expect(shown.page.locator("#samples")).to_be_visible(visible=bool(listed))
    for sample in listed[:1]:
        shown.page.locator(".sample").first.click()
        shown.found("Square 0.94", "disc 0.75")
        expect(shown.page.locator("#caption-text")).to_contain_text(sample["name"])
        shown.page.wait_for_function(
            "[...document.querySelectorAll('.sample img')].every((one) => one.naturalWidth > 0)"
        )


# -- sliders, chips, list ------------------------------------------------------------------------------------


def test_the_score_slider_filters_without_asking(show: Show) -> None:
    shown = show()
    expect(shown.page.locator("#score-value")).to_have_text("0.50")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#count")).to_have_text("2 of 3")
    shown.page.get_by_label("Score at least").fill("0.2")
    shown.found("Square 0.94", "disc 0.75", "kite 0.25")
    check_box(shown.canvas(), KITE, KITE_BOX)
    expect(shown.page.locator("#count")).to_have_text("3")
    shown.page.get_by_label("Score at least").fill("0.8")
    shown.found("Square 0.94")
    assert not drawn(shown.canvas(), DISC).any()
    expect(shown.page.locator("#live")).to_have_text("1 object: 1 Square.")
    shown.page.get_by_label("Score at least").fill("1")
    shown.found()
    expect(shown.page.locator("#empty")).to_contain_text("Nothing at this score")
    assert shown.asked == [{"score_threshold": "0.05", "nms_threshold": "0.5", "max_detections": "300"}]


def test_the_overlap_slider_asks_once_it_rests(show: Show) -> None:
    shown = show()
    shown.page.clock.install(time=NOON)
    shown.page.reload()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    shown.page.clock.pause_at(NOON + 3_600_000)
    slider = shown.page.get_by_label("Overlap allowed")
    for value in ("0.4", "0.35", "0.3"):
        slider.fill(value)
        shown.page.clock.run_for(200)
    assert len(shown.asked) == 1
    with shown.page.expect_response("**/detect?*"):
        shown.page.clock.run_for(60)
    assert [asked["nms_threshold"] for asked in shown.asked] == ["0.5", "0.3"]
    shown.found("Square 0.94", "disc 0.75")


def test_a_newer_question_calls_off_the_older(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    detector.free.clear()
    shown.page.get_by_label("Overlap allowed").fill("0.3")
    on_the_device(detector, 2)
    with shown.page.expect_event("requestfailed") as failed:
        shown.page.get_by_label("Overlap allowed").fill("0.9")
    assert "nms_threshold=0.3" in failed.value.url
    expect(shown.page.locator("#busy")).to_be_visible()
    detector.free.set()
    expect(shown.page.locator("#busy")).to_be_hidden()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#notice")).to_be_hidden()
    assert [asked["nms_threshold"] for asked in shown.asked] == ["0.5", "0.3", "0.9"]


def test_chips_count_the_classes_and_filter_them(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.page.get_by_label("Score at least").fill("0.2")
    chips = shown.page.locator(".chip")
    expect(chips).to_have_text(["disc1", "kite1", "Square1"])
    chips.nth(2).click()
    shown.found("disc 0.75", "kite 0.25")
    assert not drawn(shown.canvas(), SQUARE).any()
    expect(chips.nth(2)).to_have_attribute("aria-pressed", "false")
    expect(chips.nth(2)).to_be_focused()
    expect(shown.page.locator("#live")).to_have_text("2 objects: 1 disc, 1 kite.")
    shown.page.keyboard.press("Enter")
    shown.found("Square 0.94", "disc 0.75", "kite 0.25")
    assert len(shown.asked) == 1


def test_list_and_boxes_point_at_each_other(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    rows = shown.page.locator(".found")
    place = shown.page.locator("#boxes").bounding_box()
    assert place is not None
    rows.nth(1).hover()
    canvas = shown.canvas()
    height, width = canvas.shape[:2]
    assert canvas[round(0.45 * height), round(0.9 * width), 3] == pytest.approx(0.18 * 255, abs=3)
    assert drawn(canvas, DISC).any()
    assert not drawn(canvas, SQUARE).any()
    for x, y, expected in ((0.2, 0.7, [True, False]), (0.9, 0.4, [False, True]), (0.9, 0.9, [False, False])):
        shown.page.mouse.move(place["x"] + x * place["width"], place["y"] + y * place["height"])
        assert [("active" in (row.get_attribute("class") or "")) for row in rows.all()] == expected


def test_a_row_is_pinned_by_keyboard(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    rows = shown.page.locator(".found")
    rows.nth(0).focus()
    shown.page.keyboard.press("Tab")
    expect(rows.nth(1)).to_be_focused()
    shown.page.keyboard.press("Enter")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "true")
    shown.page.locator("#score").focus()
    assert not drawn(shown.canvas(), SQUARE).any()
    shown.page.keyboard.press("Escape")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "false")
    assert drawn(shown.canvas(), SQUARE).any()


def test_everything_is_named_and_reached_by_keyboard(show: Show) -> None:
    shown = show()
    shown.page.keyboard.press("Tab")
    expect(shown.page.get_by_role("link", name="Skip to the objects found")).to_be_focused()
    for _ in range(4):
        shown.page.keyboard.press("Tab")
    expect(shown.page.locator("#file")).to_be_focused()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.get_by_role("button", name="Another image")).to_be_focused()
    shown.page.get_by_role("button", name="disc, score 0.75, 480 by 120 pixels at 160, 120").focus()
    unnamed = shown.page.evaluate(
        """[...document.querySelectorAll("button, input, a, img")]
            .filter((one) => one.checkVisibility())
            .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.alt || one.labels?.length))
            .map((one) => one.outerHTML)"""
    )
    assert unnamed == []


# -- what serves, and how long it took -----------------------------------------------------------------------


def test_the_page_says_what_serves(show: Show) -> None:
    shown = show(FakeDetector(fallback_reason="<b>coco-r50-fpn</b> could not be fetched"))
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")
    expect(shown.page.locator("#fallback")).to_be_visible()
    expect(shown.page.locator("#fallback")).to_have_text(
        "Fallback model: <b>coco-r50-fpn</b> could not be fetched"
    )
    shown.give(picture(640, 480))
    expect(shown.page.locator("#time-total")).to_contain_text("ms on the server")
    expect(shown.page.locator("#time-legend li")).to_contain_text(
        ["decode", "queue", "inference", "postprocess", "network"]
    )
    widths = [part.bounding_box() for part in shown.page.locator("#time-bar span").all()]
    assert sum(part["width"] for part in widths if part) > 200


def test_there_is_no_warning_where_nothing_fell_back(show: Show) -> None:
    shown = show()
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")
    expect(shown.page.locator("#fallback")).to_be_hidden()


def test_the_colours_are_those_of_the_drawn_pictures(show: Show) -> None:
    colours = show().page.evaluate(
        "import('./web/stage.js').then(({ colour }) => [...Array(40).keys()].map((label) => colour(label)))"
    )
    assert colours == [f"rgb({' '.join(map(str, PALETTE[label % len(PALETTE)]))})" for label in range(40)]


# -- taking results away -------------------------------------------------------------------------------------


def test_json_and_curl_are_copied_as_shown(show: Show, tmp_path: Path) -> None:
    shown = show(context={"permissions": ["clipboard-read", "clipboard-write"]})
    name = "my 'own' \"picture\".png"
    (tmp_path / name).write_bytes(picture(640, 480))
    shown.give(picture(640, 480), name)
    shown.page.get_by_label("Score at least").fill("0.2")
    shown.page.locator(".chip").nth(0).click()
    shown.found("Square 0.94", "kite 0.25")
    shown.page.get_by_role("button", name="Copy JSON").click()
    expect(shown.page.locator("#copy-json")).to_have_text("Copied")
    copied = json.loads(shown.page.evaluate("navigator.clipboard.readText()"))
    assert copied["names"] == ["Square", "kite"]
    np.testing.assert_allclose(
        copied["boxes"], np.multiply([SQUARE_BOX, KITE_BOX], [640, 480] * 2), atol=1e-3
    )
    shown.page.get_by_role("button", name="Copy as curl").click()
    expect(shown.page.locator("#live")).to_contain_text("curl")
    command = shown.page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("curl -F ")
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        answered = json.loads(done.stdout)
        same = ("boxes", "labels", "scores", "names", "image", "model", "box_format")
        assert {key: answered[key] for key in same} == {key: copied[key] for key in same}


def test_the_drawn_picture_is_downloaded(show: Show, tmp_path: Path) -> None:
    shown = show()
    shown.give(picture(640, 480), "street.scene.png")
    shown.page.get_by_label("Score at least").fill("0.8")
    shown.found("Square 0.94")
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Download PNG").click()
    assert download.value.suggested_filename == "street.scene-detections.png"
    download.value.save_as(tmp_path / "drawn.png")
    with pillow.open(tmp_path / "drawn.png") as saved:
        pixels = np.asarray(saved.convert("RGBA"), np.int64)
    assert drawn(pixels, SQUARE).any()
    assert shown.asked[-1] == {
        "score_threshold": "0.8",
        "nms_threshold": "0.5",
        "max_detections": "300",
        "format": "png",
    }


# -- when it does not go well --------------------------------------------------------------------------------


def test_a_file_that_is_no_image_is_told(show: Show) -> None:
    shown = show(faults=[400])
    shown.give(b"no image", "notes.txt", "text/plain")
    expect(shown.page.locator("#notice-title")).to_have_text("The image cannot be read")
    expect(shown.page.locator("#notice-text")).to_contain_text("PNG")
    expect(shown.page.locator("#notice-button")).to_be_hidden()
    expect(shown.page.locator("#drop")).to_be_visible()
    expect(shown.page.locator("#empty")).to_have_text("No answer for this image.")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#notice")).to_be_hidden()


def test_an_image_that_is_too_large_is_told(show: Show) -> None:
    shown = show(faults=[413], max_pixels=5000)
    shown.give(picture(100, 100))
    expect(shown.page.locator("#notice-title")).to_have_text("The image has too many pixels")
    expect(shown.page.locator("#notice-text")).to_contain_text("5000")


def test_a_key_is_asked_for_and_kept(show: Show) -> None:
    shown = show(faults=[401], api_keys=(SecretStr("open sesame".replace(" ", "-")),))
    expect(shown.page.locator("#key-form")).to_be_hidden()
    shown.give(picture(640, 480))
    key = shown.page.get_by_label("API key")
    expect(key).to_be_focused()
    expect(shown.page.locator("#notice-title")).to_have_text("This server asks for an API key.")
    key.fill("wrong")
    with shown.page.expect_response("**/detect?*"):
        shown.page.keyboard.press("Enter")
    expect(key).to_be_focused()
    key.fill("open-sesame")
    shown.page.get_by_role("button", name="Use key").click()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#key-form")).to_be_hidden()
    expect(shown.page.locator("#notice")).to_be_hidden()
    shown.page.reload()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    assert len(shown.asked) == 4


def test_a_busy_server_is_waited_for(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector, faults=[429], max_queue=1)
    shown.page.clock.install(time=NOON)
    shown.page.reload()
    expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")
    detector.free.clear()
    other = threading.Thread(
        target=httpx.post, args=(f"{shown.url}detect",), kwargs={"files": {"image": picture()}}
    )
    other.start()
    on_the_device(detector, 1)
    shown.page.clock.pause_at(NOON + 3_600_000)
    with shown.page.expect_response("**/detect?*") as refused:
        shown.give(picture(640, 480))
    seconds = int(refused.value.headers["retry-after"])
    expect(shown.page.locator("#notice-title")).to_have_text("Too many requests")
    expect(shown.page.locator("#countdown")).to_have_text(f"Trying again in {seconds} s")
    if seconds > 1:
        shown.page.clock.run_for(1000)
        expect(shown.page.locator("#countdown")).to_have_text(f"Trying again in {seconds - 1} s")
    detector.free.set()
    other.join()
    shown.page.clock.run_for(1000 * seconds)
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#notice")).to_be_hidden()
    assert len(shown.asked) == 2


def test_waiting_can_be_called_off(show: Show) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    shown = show(detector, faults=[503])
    shown.give(picture(640, 480))
    expect(shown.page.locator("#countdown")).to_contain_text("Trying again in")
    shown.page.get_by_role("button", name="Stop waiting").click()
    expect(shown.page.locator("#notice")).to_be_hidden()
    expect(shown.page.locator("#busy")).to_be_hidden()
    expect(shown.page.locator("#empty")).to_have_text("No answer for this image.")


def test_a_model_that_loads_is_waited_for(show: Show) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    shown = show(detector, faults=[503])
    expect(shown.page.locator("#serving-text")).to_have_text("Loading the model…")
    shown.give(picture(640, 480))
    expect(shown.page.locator("#notice-title")).to_have_text("The model is loading")
    detector.warm.set()
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#serving-text")).to_have_text("fake · fake · cpu · fp32")


def test_a_server_that_is_gone_is_told_and_asked_again(browser: Browser) -> None:
    with served(FakeDetector()) as url, browser.new_context() as context:
        shown = Shown(context.new_page(), url)
        shown.page.goto(url)
        shown.give(picture(640, 480))
        shown.found("Square 0.94", "disc 0.75")
        shown.page.route("**/*", lambda route: route.abort("connectionrefused"))
        shown.give(picture(640, 480))
        expect(shown.page.locator("#notice-title")).to_have_text("The server did not answer.")
        expect(shown.page.locator("#serving-text")).to_have_text("The server does not answer")
        shown.page.unroute_all()
        shown.page.get_by_role("button", name="Try again").click()
        shown.found("Square 0.94", "disc 0.75")
        expect(shown.page.locator("#serving")).to_have_attribute("data-status", "ok")


def test_a_fault_of_the_server_is_told(show: Show) -> None:
    detector = FakeDetector(poison=lambda _: RuntimeError("a secret"))
    shown = show(detector, faults=[500])
    shown.give(picture(640, 480))
    expect(shown.page.locator("#notice-title")).to_have_text("Internal error")
    expect(shown.page.locator("#notice")).not_to_contain_text("secret")
    detector.poison = lambda _: None
    shown.page.get_by_role("button", name="Try again").click()
    shown.found("Square 0.94", "disc 0.75")
