"""The page of captures: what was kept, with its boxes, by rule and class; erased, one or all."""

import base64
import io
import json
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image as pillow
from playwright.sync_api import Page, expect

from tests.support.chromium import DISC, DISC_BOX, SQUARE, SQUARE_BOX, Show, check_box
from tests.support.fakes import picture

CHIEF = {"X-API-Key": "chief"}


def count(url: str) -> int:
    return int(httpx.get(f"{url}captures", headers=CHIEF).json()["count"])


def keep(url: str, number: int, **options: str) -> None:
    """Send an image, and wait until it is kept, as the one of this number."""
    response = httpx.post(f"{url}detect", content=picture(640, 480), params=options, timeout=30)
    response.raise_for_status()
    deadline = time.monotonic() + 20
    while count(url) < number:
        assert time.monotonic() < deadline, "it is not kept"


def check_boxes(page: Page, index: int) -> None:
    """Both objects are drawn over the thumbnail."""
    data = page.locator(".shot .boxes").nth(index).evaluate("(canvas) => canvas.toDataURL()")
    with pillow.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as drawn:
        canvas = np.asarray(drawn.convert("RGBA"), np.int64)
    check_box(canvas, SQUARE, SQUARE_BOX)
    check_box(canvas, DISC, DISC_BOX)


def test_captures_are_shown_filtered_saved_and_erased(show: Show, tmp_path: Path) -> None:
    rules = {"capture_dir": tmp_path, "capture_rules": "score=0.7-0.8,none", "admin_keys": "chief"}
    shown = show(faults=[401], **rules)
    page, url, cards = shown.page, shown.url, shown.page.locator("#shots > li:visible")
    keep(url, 1)
    keep(url, 2, classes="kite")
    page.goto(f"{url}captures")
    for key in ("guest", "chief"):
        expect(page.locator("#lead")).to_contain_text("RCNN_ADMIN_KEYS")
        page.get_by_label("Admin key").fill(key)
        with page.expect_response("**/captures?*"):
            page.keyboard.press("Enter")
    expect(cards).to_have_count(2)
    expect(page.get_by_label("Admin key")).to_be_hidden()
    expect(page.locator("#lead")).to_contain_text("2 images")
    expect(cards.nth(0)).to_contain_text("no objects")  # the newest first
    expect(cards.nth(1)).to_contain_text("fake · 2 objects: Square, disc")
    expect(page.locator(".shot .boxes")).to_have_count(2)
    check_boxes(page, 1)
    for choice, chosen, found in (
        ("rule", "none", 1),
        ("class", "disc", 0),
        ("rule", "", 1),
        ("class", "", 2),
    ):
        page.locator(f"#{choice}").select_option(chosen)
        expect(cards).to_have_count(found)
    with page.expect_download() as download:
        page.locator("#shots > li").nth(1).get_by_text("COCO").click()
    assert len(json.loads(download.value.path().read_text())["annotations"]) == 2
    page.locator("#format").select_option("yolo")
    expect(page.locator("#command")).to_have_text("rcnn captures export --to yolo --out labelled")

    page.locator("#shots > li").nth(1).get_by_text("Delete").click()
    expect(cards).to_have_count(1)
    assert count(url) == 1
    for answer, left in (("Keep them", 1), ("Delete all", 0)):
        page.locator("#erase-all").click()
        page.locator("#sure").get_by_text(answer, exact=True).click()
        expect(cards).to_have_count(left)
        assert count(url) == left
    expect(page.locator("#lead")).to_contain_text("No image is kept yet")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_page_says_how_to_turn_captures_on(show: Show) -> None:
    shown = show()
    shown.page.get_by_role("link", name="Captures").click()
    expect(shown.page.get_by_text("RCNN_CAPTURE_DIR=captures")).to_be_visible()
    expect(shown.page.locator("#key-form")).to_be_hidden()
