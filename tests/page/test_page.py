"""From an image to boxes on the page: files, samples, the camera; and the view of it; in a real Chromium."""

import base64
import io

import httpx
import pytest
from PIL import Image as pillow
from playwright.sync_api import expect

from tests.support.chromium import CHROMIUM, DISC, DISC_BOX, KITE, SQUARE, SQUARE_BOX, Show, check_box, drawn
from tests.support.fakes import picture

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")


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


# -- zoom and pan --------------------------------------------------------------------------------------------


def test_zoom_and_pan_keep_the_boxes_on_their_pixels(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    frame = shown.page.locator("#boxes").bounding_box()
    assert frame is not None
    left, top, width, height = (frame[key] for key in ("x", "y", "width", "height"))
    shown.page.get_by_role("button", name="Zoom in").click()
    expect(shown.page.locator("#zoom-value")).to_have_text("150 %")
    shown.page.mouse.move(left + 0.3 * width, top + 0.6 * height)
    shown.page.mouse.down()
    shown.page.mouse.move(left + 0.4 * width, top + 0.7 * height, steps=4)
    shown.page.mouse.up()
    expect(shown.page.locator(".found[aria-pressed=true]")).to_have_count(0)
    photo = shown.page.locator("#photo").bounding_box()
    assert photo == pytest.approx(
        {"x": left - 0.15 * width, "y": top - 0.15 * height, "width": 1.5 * width, "height": 1.5 * height},
        abs=0.5,
    )
    shown.page.mouse.move(left + 0.9 * width, top + 0.9 * height)
    check_box(shown.canvas(), SQUARE, (0.0375, 0.225, 0.6, 0.975))
    shown.page.mouse.move(left + 0.25 * width, top + 0.7 * height)
    expect(shown.page.locator(".found.active .name")).to_have_text("Square")
    shown.page.get_by_role("button", name="Fit").click()
    shown.page.mouse.move(left + 0.9 * width, top + 0.9 * height)
    check_box(shown.canvas(), SQUARE, SQUARE_BOX)
    assert shown.page.locator("#photo").bounding_box() == frame


def test_the_wheel_zooms_where_the_pointer_is(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    frame = shown.page.locator("#boxes").bounding_box()
    assert frame is not None
    x, y = frame["x"] + 0.25 * frame["width"], frame["y"] + 0.5 * frame["height"]
    shown.page.mouse.move(x, y)
    shown.page.keyboard.down("Control")
    for _ in range(3):
        shown.page.mouse.wheel(0, -100)
    expect(shown.page.locator("#zoom-value")).to_have_text("332 %")
    photo = shown.page.locator("#photo").bounding_box()
    assert photo is not None
    assert ((x - photo["x"]) / photo["width"], (y - photo["y"]) / photo["height"]) == pytest.approx(
        (0.25, 0.5), abs=0.005
    )


def test_the_view_is_moved_by_keyboard(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    frame, photo = shown.page.locator("#frame"), shown.page.locator("#photo")
    frame.focus()
    shown.page.keyboard.press("+")
    expect(shown.page.locator("#zoom-value")).to_have_text("150 %")
    before = photo.bounding_box()
    shown.page.keyboard.press("ArrowRight")
    after = photo.bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] == pytest.approx(before["x"] - 0.1 * before["width"], abs=0.5)
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("0")
    expect(shown.page.locator("#zoom-value")).to_have_text("100 %")
    for _ in range(5):
        shown.page.keyboard.press("+")
    shown.page.locator(".found").nth(1).focus()
    shown.page.keyboard.press("Enter")  # brings its box into sight
    canvas = shown.canvas()
    assert canvas[canvas.shape[0] // 2, canvas.shape[1] // 2, 3] == pytest.approx(0.18 * 255, abs=3)
