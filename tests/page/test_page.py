"""From an image to boxes on the page: files, samples, and the view of them; in a real Chromium."""

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image as pillow
from playwright.sync_api import expect

from tests.support.chromium import (
    DISC,
    DISC_BOX,
    KITE,
    OBJECTS,
    SQUARE,
    SQUARE_BOX,
    Show,
    Shown,
    check_box,
    drawn,
)
from tests.support.fakes import CARD, FakeDetector, picture

CORNER = """() => {
    const photo = document.getElementById("photo");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [photo.naturalWidth, photo.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(photo, 0, 0);
    const { data } = context.getImageData(8, canvas.height - 8, 1, 1);
    return [canvas.width, canvas.height, ...data.slice(0, 3)];
}"""
"""The size of the picture shown, and its colour at the lower left corner."""

# -- from an image to boxes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "ratio"), [(390, 3), (820, 2), (1440, 1)])
def test_boxes_lie_at_the_right_pixels(show: Show, width: int, ratio: int) -> None:
    shown = show(width=width, context={"device_scale_factor": ratio})
    shown.detect()
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
    shown.page.set_viewport_size({"width": width * 3 // 4, "height": 900})
    expect(shown.page.locator("#boxes")).not_to_have_attribute("width", str(canvas.shape[1]))
    check_box(shown.canvas(), DISC, DISC_BOX, ratio)


def turned_photo(orientation: int = 6, size: tuple[int, int] = (640, 480)) -> bytes:
    """A photo that its EXIF turns, by default by a quarter clockwise; black but for its first row's side."""
    file = io.BytesIO()
    exif = pillow.Exif()
    exif[0x0112] = orientation
    photo = pillow.new("RGB", size, "black")
    photo.paste("white", (0, 0, size[0], 64))
    photo.save(file, "JPEG", exif=exif)
    return file.getvalue()


def transfer(shown: Shown) -> Any:
    """A DataTransfer with a text file and `given.png`."""
    return shown.page.evaluate_handle(
        """(content) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File(["notes"], "notes.txt", { type: "text/plain" }));
            transfer.items.add(new File([bytes], "given.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(picture(640, 480)).decode(),
    )


def test_an_image_may_be_chosen_dropped_pasted_or_a_sample(show: Show) -> None:
    shown = show(FakeDetector(card=CARD.model_copy(update={"name": "shapes"})))
    page, caption = shown.page, shown.page.locator("#caption-text")
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer(shown)})
    expect(page.locator("body")).to_have_class("dragging")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(shown)})
    expect(page.locator("body")).not_to_have_class("dragging")
    expect(caption).to_have_text("given.png · 640 \u00d7 480")
    shown.lists(*OBJECTS)
    # as it is displayed: turned by its EXIF
    shown.choose(turned_photo(), "turned.jpg", "image/jpeg")
    expect(caption).to_have_text("turned.jpg · 480 \u00d7 640")
    shown.lists(*OBJECTS)
    canvas = shown.canvas()
    assert canvas.shape[1] / canvas.shape[0] == pytest.approx(480 / 640, abs=0.01)
    check_box(canvas, SQUARE, SQUARE_BOX)
    # the browser cannot read it, and shows it all the same
    shown.choose(picture(640, 480, "TIFF"), "scan.tiff", "image/tiff")
    expect(caption).to_have_text("scan.tiff · 640 \u00d7 480")
    shown.lists(*OBJECTS)
    assert page.evaluate("document.getElementById('photo').naturalWidth") == 640
    check_box(shown.canvas(), SQUARE, SQUARE_BOX)
    paste = "(data) => window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))"
    page.evaluate(paste, transfer(shown))
    expect(caption).to_have_text("given.png · 640 \u00d7 480")
    shown.lists(*OBJECTS)
    samples = httpx.get(f"{shown.url}samples").json()["samples"]
    expect(page.locator(".sample")).to_have_count(len(samples))
    page.reload()
    expect(page.locator("#samples")).to_be_visible()
    page.locator(".sample").first.click()
    shown.lists(*OBJECTS)
    expect(caption).to_contain_text(samples[0]["name"])
    for image in page.locator(".sample img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)


TURNED = {
    (3, (640, 480)): ([640, 480], "white"),
    (6, (640, 480)): ([480, 640], "black"),
    (8, (480, 480)): ([480, 480], "white"),
}


def test_the_picture_is_as_the_server_saw_it(show: Show) -> None:
    """In a browser that does not turn pictures as their EXIF says."""
    shown = show()
    shown.page.evaluate("document.getElementById('photo').style.imageOrientation = 'none'")
    for (orientation, stored), (size, colour) in TURNED.items():
        shown.choose(turned_photo(orientation, stored), f"{orientation}.jpg", "image/jpeg")
        text = f"{orientation}.jpg \u00b7 {size[0]} \u00d7 {size[1]}"
        expect(shown.page.locator("#caption-text")).to_have_text(text)
        expect(shown.page.locator("#busy")).to_be_hidden()
        corner = shown.page.evaluate(CORNER)
        assert corner[:2] == size, orientation
        assert (min(corner[2:]) > 200) is (colour == "white"), (orientation, corner)
    assert len(shown.queries) == 5  # each image, and the pictures of those whose size does not tell


# -- zoom and pan --------------------------------------------------------------------------------------------


def test_zoom_and_pan_keep_the_boxes_on_their_pixels(show: Show) -> None:
    shown = show()
    shown.detect()
    page, photo, zoom = shown.page, shown.page.locator("#photo"), shown.page.locator("#zoom-value")
    frame = page.locator("#boxes").bounding_box()
    assert frame is not None
    left, top, width, height = (frame[key] for key in ("x", "y", "width", "height"))
    page.get_by_role("button", name="Zoom in").click()
    expect(zoom).to_have_text("150 %")
    page.mouse.move(left + 0.3 * width, top + 0.6 * height)
    page.mouse.down()
    page.mouse.move(left + 0.4 * width, top + 0.7 * height, steps=4)
    page.mouse.up()
    expect(page.locator(".found[aria-pressed=true]")).to_have_count(0)
    assert photo.bounding_box() == pytest.approx(
        {"x": left - 0.15 * width, "y": top - 0.15 * height, "width": 1.5 * width, "height": 1.5 * height},
        abs=0.5,
    )
    page.mouse.move(left + 0.9 * width, top + 0.9 * height)
    check_box(shown.canvas(), SQUARE, (0.0375, 0.225, 0.6, 0.975))
    page.mouse.move(left + 0.25 * width, top + 0.7 * height)
    expect(page.locator(".found.active .name")).to_have_text("Square")
    page.get_by_role("button", name="Fit").click()
    page.mouse.move(left + 0.9 * width, top + 0.9 * height)
    check_box(shown.canvas(), SQUARE, SQUARE_BOX)
    assert photo.bounding_box() == frame
    # the wheel zooms where the pointer is
    x, y = left + 0.25 * width, top + 0.5 * height
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    for _ in range(3):
        page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(zoom).to_have_text("332 %")
    place = photo.bounding_box()
    assert place is not None
    at = ((x - place["x"]) / place["width"], (y - place["y"]) / place["height"])
    assert at == pytest.approx((0.25, 0.5), abs=0.005)


def test_the_view_is_moved_by_keyboard(show: Show) -> None:
    shown = show()
    shown.detect()
    page, photo, zoom = shown.page, shown.page.locator("#photo"), shown.page.locator("#zoom-value")
    page.locator("#frame").focus()
    page.keyboard.press("+")
    expect(zoom).to_have_text("150 %")
    before = photo.bounding_box()
    page.keyboard.press("ArrowRight")
    after = photo.bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] == pytest.approx(before["x"] - 0.1 * before["width"], abs=0.5)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    expect(zoom).to_have_text("100 %")
    for _ in range(5):
        page.keyboard.press("+")
    page.locator(".found").nth(1).focus()
    page.keyboard.press("Enter")  # brings its box into sight
    canvas = shown.canvas()
    assert canvas[canvas.shape[0] // 2, canvas.shape[1] // 2, 3] == pytest.approx(0.18 * 255, abs=3)
