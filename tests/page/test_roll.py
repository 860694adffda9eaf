"""Many pictures on the page: filmstrip, frames, labels, keys, comparison; in a real Chromium."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image as pillow
from playwright.sync_api import expect

from tests.support.chromium import OBJECTS, Show
from tests.support.fakes import FakeDetector, picture
from tests.support.several import FIRST, SECOND, Models


def test_a_folder_is_a_filmstrip_with_a_state_each(show: Show, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(picture(640, 480))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("not opened")
    detector = FakeDetector()
    shown = show(detector, faults=[400])
    page, thumbs = shown.page, shown.page.locator(".thumb")
    detector.free.clear()
    page.set_input_files("#directory", tmp_path)
    expect(thumbs).to_have_count(4)
    expect(page.locator("#strip-status")).to_contain_text("of 4")
    expect(page.locator("#strip-progress")).to_be_visible()
    detector.free.set()
    expect(page.locator("#strip-status")).to_have_text("4 · 1 failed")
    expect(page.locator("#strip-progress")).to_be_hidden()
    assert len(shown.queries) == 4
    failed = page.get_by_role("button", name="broken.jpg, The image cannot be read")
    failed.click()
    expect(page.locator("#notice-title")).to_have_text("The image cannot be read")
    page.get_by_role("button", name="a.png, 2 objects").click()
    shown.lists(*OBJECTS)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="b.png, 2 objects")).to_have_attribute("aria-current", "true")
    shown.lists(*OBJECTS)
    assert len(shown.queries) == 5  # the broken one again, and no other: their answers are kept
    with page.expect_download() as file:
        page.get_by_role("button", name="Save all as JSON").click()
    results = json.loads(Path(file.value.path()).read_text())
    counts = {one["name"]: len(one["objects"]) for one in results if "objects" in one}
    assert counts == {"a.png": 2, "b.png": 2, "c.png": 2}
    assert [one["error"]["code"] for one in results if "error" in one] == ["invalid_image"]
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#drop")).to_be_visible()


def test_an_animation_is_the_frames_that_were_detected(show: Show) -> None:
    file = io.BytesIO()
    frames = [pillow.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0)
    shown = show()
    shown.choose(file.getvalue(), "moving.gif", "image/gif")
    thumbs = shown.page.locator(".thumb .thumb-name")
    expect(thumbs).to_have_text([f"frame {index}" for index in range(3)])
    shown.lists(*OBJECTS)
    expect(shown.page.locator(".thumb .badge")).to_have_text(["2", "2", "2"])
    shown.page.locator(".thumb").nth(2).click()
    expect(shown.page.locator("#caption-text")).to_contain_text("frame-0002.png · 64 \u00d7 48")
    colour = """() => {
        const context = document.createElement("canvas").getContext("2d");
        context.drawImage(document.getElementById("photo"), 0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    }"""
    assert shown.page.evaluate(colour) == [0, 0, 255]
    shown.page.get_by_role("tab", name="Code").click()
    expect(shown.page.locator("#code-text")).to_contain_text("image=@moving.gif")
    expect(shown.page.locator("#code-text")).to_contain_text("/detect/stream?")
    assert shown.queries[0]["format"] == "png"


def test_labels_cover_no_object_and_those_without_a_place_stand_below(show: Show) -> None:
    page = show().page
    rng = np.random.default_rng(21)
    corners = rng.uniform(0, 500, (25, 2))
    boxes = [[x, y, x + 70.0, y + 60.0] for x, y in corners.tolist()]
    place = """([boxes, size]) => import('./web/placement.js').then(({ placeTags }) => {
        const tags = boxes.map((box) => ({ box, wide: 80, high: 20 }));
        return placeTags(tags, boxes, { width: size, height: size });
    })"""
    placed = [one for one in page.evaluate(place, [boxes, 600]) if one]
    assert len(placed) > 10
    others = [*boxes, *([x, y, x + 80, y + 20] for x, y in placed)]
    for x, y in placed:
        covered = [b for b in others if x < b[2] and x + 80 > b[0] and y < b[3] and y + 20 > b[1]]
        assert covered == [[x, y, x + 80, y + 20]]  # itself
        assert min(x, y) >= 0
        assert max(x + 80, y + 20) <= 600
    assert page.evaluate(place, [[[0, 0, 600, 600]], 600]) == [None]


def test_two_models_and_keys(show: Show) -> None:
    shown = show(loader=Models(), model=f"{FIRST},{SECOND}", max_loaded_models=2)
    page = shown.page
    expect(page.locator("#model")).to_have_value(FIRST)
    shown.choose(picture(640, 480))
    shown.lists("Square 0.94", "disc 0.75")
    page.locator("body").press("c")
    expect(page.locator("#frame-b")).to_be_visible()
    expect(page.locator("#compared")).to_have_text("A: 2 objects · B: 2 objects · 2 in both")
    assert len(shown.queries) == 1  # the same answer at two confidences
    page.locator("#score-b").fill("0.9")
    expect(page.locator("#compared")).to_have_text("A: 2 objects · B: 1 object · 1 in both")
    page.locator("#model-b").select_option(SECOND)
    expect(page.locator("#compared")).to_have_text("A: 2 objects · B: 1 object · 0 in both")
    assert shown.queries[-1]["model"] == SECOND
    page.locator("#frame").focus()
    page.keyboard.press("j")
    expect(page.locator(".found").nth(0)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("k")
    expect(page.locator(".found").nth(1)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    page.get_by_label("Use single letters as keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator("body").press("c")
    expect(page.locator("#frame-b")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#frame-b")).to_be_hidden()


def test_the_catalogue_and_the_metrics_are_pages(show: Show) -> None:
    shown = show()
    shown.detect()
    page = shown.page
    page.get_by_role("link", name="Models").click()
    card = page.locator(".card", has=page.get_by_role("heading", name="fake", exact=True))
    expect(card).to_contain_text("ready · default")
    expect(card).to_contain_text("Square, disc, kite")
    page.get_by_role("link", name="Metrics").click()
    page.get_by_label("Find a metric").fill("rcnn_batch_size")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("1 · mean 1")
    expect(page.locator("#tiles")).to_contain_text("Images1")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.go_back()
    expect(card).to_be_visible()  # a page, and not the data that it fetched from the same address
