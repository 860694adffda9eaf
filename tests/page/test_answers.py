"""What a person does with an answer on the page: sliders, chips, list, copies, files; in a real Chromium."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow
from playwright.sync_api import expect

from models.images.drawing import PALETTE
from tests.support.chromium import (
    CHROMIUM,
    DISC,
    KITE,
    KITE_BOX,
    NOON,
    SQUARE,
    SQUARE_BOX,
    Show,
    check_box,
    drawn,
    on_the_device,
)
from tests.support.fakes import FINDS, FakeDetector, picture

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")


# -- sliders, chips, list ------------------------------------------------------------------------------------


def test_the_score_slider_filters_without_asking(show: Show) -> None:
    shown = show()
    expect(shown.page.locator("#score-value")).to_have_text("0.50")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    expect(shown.page.locator("#count")).to_have_text("2 of 3")
    shown.page.get_by_label("Minimum confidence").fill("0.2")
    shown.found("Square 0.94", "disc 0.75", "kite 0.25")
    check_box(shown.canvas(), KITE, KITE_BOX)
    expect(shown.page.locator("#count")).to_have_text("3")
    shown.page.get_by_label("Minimum confidence").fill("0.8")
    shown.found("Square 0.94")
    assert not drawn(shown.canvas(), DISC).any()
    expect(shown.page.locator("#live")).to_have_text("1 object: 1 Square.")
    shown.page.get_by_label("Minimum confidence").fill("1")
    shown.found()
    expect(shown.page.locator("#empty")).to_contain_text("No objects at this confidence")
    assert shown.asked == [{"score_threshold": "0.05", "nms_threshold": "0.5", "max_detections": "300"}]


@pytest.mark.parametrize(
    ("label", "option", "values", "before"),
    [
        ("Overlap allowed", "nms_threshold", ("0.4", "0.35", "0.3"), "0.5"),
        ("Input size (short side)", "size", ("256", "480", "800"), None),
    ],
)
def test_a_slider_asks_once_it_rests(
    show: Show, label: str, option: str, values: tuple[str, ...], before: str | None
) -> None:
    shown = show()
    shown.page.clock.install(time=NOON)
    shown.page.reload()
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    shown.page.clock.pause_at(NOON + 3_600_000)
    slider = shown.page.get_by_label(label)
    for value in values:
        slider.fill(value)
        shown.page.clock.run_for(200)
    assert len(shown.asked) == 1
    with shown.page.expect_response("**/detect?*"):
        shown.page.clock.run_for(60)
    assert [asked.get(option) for asked in shown.asked] == [before, values[-1]]
    shown.found("Square 0.94", "disc 0.75")


def test_the_size_starts_as_the_model_has_it_and_returns_there(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    expect(shown.page.locator("#size-value")).to_have_text("128 px")
    shown.give(picture(640, 480))
    shown.found("Square 0.94", "disc 0.75")
    shown.page.get_by_label("Input size (short side)").fill("640")
    expect(shown.page.locator("#size-value")).to_have_text("640 px")
    on_the_device(detector, 2)
    back = shown.page.get_by_role("button", name="Reset to model default")
    back.click()
    on_the_device(detector, 3)
    expect(back).to_be_hidden()
    expect(shown.page.locator("#size-value")).to_have_text("128 px")
    assert [min(job.canvas.content) for batch in detector.batches for job in batch] == [128, 640, 128]


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
    shown.page.get_by_label("Minimum confidence").fill("0.2")
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
    expect(shown.page.get_by_role("link", name="Skip to the detections")).to_be_focused()
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
    shown.page.get_by_label("Minimum confidence").fill("0.2")
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
    shown.page.get_by_label("Minimum confidence").fill("0.8")
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


def test_the_answer_is_downloaded_as_a_coco_dataset(show: Show) -> None:
    shown = show()
    shown.give(picture(640, 480), "street.scene.png")
    shown.page.get_by_label("Minimum confidence").fill("0.2")
    shown.page.locator(".chip").nth(0).click()
    shown.found("Square 0.94", "kite 0.25")
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Download COCO").click()
    assert download.value.suggested_filename == "street.scene-coco.json"
    dataset = json.loads(Path(download.value.path()).read_text())
    assert dataset["images"] == [{"id": 1, "file_name": "street.scene.png", "width": 640, "height": 480}]
    boxes = [
        (x1 * 640, y1 * 480, (x2 - x1) * 640, (y2 - y1) * 480) for x1, y1, x2, y2 in (SQUARE_BOX, KITE_BOX)
    ]
    np.testing.assert_allclose([one["bbox"] for one in dataset["annotations"]], boxes, atol=1e-3)
    assert [one["category_id"] for one in dataset["annotations"]] == [FINDS[0][0], FINDS[2][0]]
    for chip in (1, 2):
        shown.page.locator(".chip").nth(chip).click()
    shown.found()
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Download COCO").click()
    assert json.loads(Path(download.value.path()).read_text())["annotations"] == []
