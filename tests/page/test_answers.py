"""An answer on the page: sliders, chips, list, copies, files; in a real Chromium."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import expect

from tests.support.chromium import (
    DISC,
    KITE,
    KITE_BOX,
    NOON,
    OBJECTS,
    SQUARE,
    SQUARE_BOX,
    Show,
    Shown,
    check_box,
    drawn,
    on_the_device,
)
from tests.support.fakes import FINDS, FakeDetector, picture

# -- sliders, chips, list ------------------------------------------------------------------------------------


def test_scores_and_classes_are_filtered_without_a_request(show: Show) -> None:
    shown = show()
    page, score, live = shown.page, shown.page.get_by_label("Minimum confidence"), shown.page.locator("#live")
    expect(page.locator("#score-value")).to_have_text("0.50")
    shown.detect()
    expect(page.locator("#count")).to_have_text("2 of 3")
    score.fill("0.8")
    shown.lists("Square 0.94")
    assert not drawn(shown.canvas(), DISC).any()
    expect(live).to_have_text("1 object: 1 Square.")
    score.fill("1")
    shown.lists()
    expect(page.locator("#empty")).to_contain_text("No objects at this confidence")
    score.fill("0.2")
    shown.lists("Square 0.94", "disc 0.75", "kite 0.25")
    check_box(shown.canvas(), KITE, KITE_BOX)
    expect(page.locator("#count")).to_have_text("3")
    chips = page.locator(".chip")
    expect(chips).to_have_text(["disc1", "kite1", "Square1"])
    chips.nth(2).click()
    shown.lists("disc 0.75", "kite 0.25")
    assert not drawn(shown.canvas(), SQUARE).any()
    expect(chips.nth(2)).to_have_attribute("aria-pressed", "false")
    expect(chips.nth(2)).to_be_focused()
    expect(live).to_have_text("2 objects: 1 disc, 1 kite.")
    page.keyboard.press("Enter")
    shown.lists("Square 0.94", "disc 0.75", "kite 0.25")
    assert shown.queries == [{"score_threshold": "0.05", "nms_threshold": "0.5", "max_detections": "300"}]


def test_list_and_boxes_point_at_each_other(show: Show) -> None:
    shown = show()
    shown.detect()
    page, rows = shown.page, shown.page.locator(".found")
    place = page.locator("#boxes").bounding_box()
    assert place is not None
    rows.nth(1).hover()
    canvas = shown.canvas()
    height, width = canvas.shape[:2]
    assert canvas[round(0.45 * height), round(0.9 * width), 3] == pytest.approx(0.18 * 255, abs=3)
    assert drawn(canvas, DISC).any()
    assert not drawn(canvas, SQUARE).any()
    for x, y, expected in ((0.2, 0.7, [True, False]), (0.9, 0.4, [False, True]), (0.9, 0.9, [False, False])):
        page.mouse.move(place["x"] + x * place["width"], place["y"] + y * place["height"])
        assert [("active" in (row.get_attribute("class") or "")) for row in rows.all()] == expected
    # a row is pinned by keyboard
    rows.nth(0).focus()
    page.keyboard.press("Tab")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator("#score").focus()
    assert not drawn(shown.canvas(), SQUARE).any()
    page.keyboard.press("Escape")
    expect(rows.nth(1)).to_have_attribute("aria-pressed", "false")
    assert drawn(shown.canvas(), SQUARE).any()


def test_a_slider_sends_one_request_once_it_rests(show: Show) -> None:
    shown = show()
    shown.page.clock.install(time=NOON)
    shown.page.reload()
    shown.options()
    shown.detect()
    shown.page.clock.pause_at(NOON + 3_600_000)
    for label, values in (
        ("Overlap allowed", ("0.4", "0.35", "0.3")),
        ("Input size (short side)", ("256", "480", "800")),
    ):
        count = len(shown.queries)
        for value in values:
            shown.page.get_by_label(label).fill(value)
            shown.page.clock.run_for(200)
        assert len(shown.queries) == count
        with shown.page.expect_response("**/detect?*"):
            shown.page.clock.run_for(60)
        shown.lists(*OBJECTS)
    options = [(query["nms_threshold"], query.get("size")) for query in shown.queries]
    assert options == [("0.5", None), ("0.3", None), ("0.3", "800")]


def test_the_size_returns_to_the_models_and_a_newer_request_cancels_the_older(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    page, size, overlap = (
        shown.page,
        shown.page.locator("#size-value"),
        shown.page.get_by_label("Overlap allowed"),
    )
    expect(size).to_have_text("128 px")
    shown.options()
    shown.detect()
    page.get_by_label("Input size (short side)").fill("640")
    expect(size).to_have_text("640 px")
    on_the_device(detector, 2)
    back = page.get_by_role("button", name="Reset to model default")
    back.click()
    on_the_device(detector, 3)
    expect(back).to_be_hidden()
    expect(size).to_have_text("128 px")
    assert [min(job.canvas.content) for batch in detector.batches for job in batch] == [128, 640, 128]
    expect(page.locator("#busy")).to_be_hidden()
    detector.free.clear()
    overlap = page.get_by_label("Overlap allowed")
    overlap.fill("0.3")
    on_the_device(detector, 4)
    with page.expect_event("requestfailed") as failed:
        overlap.fill("0.9")
    assert "nms_threshold=0.3" in failed.value.url
    expect(page.locator("#busy")).to_be_visible()
    detector.free.set()
    expect(page.locator("#busy")).to_be_hidden()
    shown.lists(*OBJECTS)
    expect(page.locator("#notice")).to_be_hidden()
    assert [query["nms_threshold"] for query in shown.queries] == ["0.5", "0.5", "0.5", "0.3", "0.9"]


def test_an_image_is_cut_into_tiles(show: Show) -> None:
    detector = FakeDetector()
    shown = show(detector)
    shown.choose(picture(1024, 700))
    shown.lists(*OBJECTS)
    assert len(detector.reached) == 1
    shown.options()
    shown.page.get_by_label("Tiles").select_option("Automatic")
    expect(shown.page.locator("#list li")).not_to_have_count(2)
    assert shown.queries[-1]["tile"] == "auto"
    assert len(detector.reached) > 10
    count = len(detector.reached)
    shown.page.get_by_label("Tiles").select_option("Off")
    shown.lists(*OBJECTS)
    assert "tile" not in shown.queries[-1]
    assert len(detector.reached) == count + 1


# -- taking results away -------------------------------------------------------------------------------------


def copied(shown: Shown, button: str) -> str:
    """What a button copies."""
    shown.page.get_by_role("button", name=button).click()
    expect(shown.page.get_by_role("button", name="Copied")).to_be_visible()
    return str(shown.page.evaluate("navigator.clipboard.readText()"))


def test_json_and_programs_are_copied_as_shown(show: Show, tmp_path: Path) -> None:
    shown = show(context={"permissions": ["clipboard-read", "clipboard-write"]})
    name = "my 'own' \"picture\".png"
    (tmp_path / name).write_bytes(picture(640, 480))
    shown.choose(picture(640, 480), name)
    shown.page.get_by_label("Minimum confidence").fill("0.2")
    shown.page.locator(".chip").nth(0).click()
    shown.lists("Square 0.94", "kite 0.25")
    shown.page.get_by_role("tab", name="JSON").click()
    expect(shown.page.locator("#json-text")).to_contain_text('"names": [')
    document = json.loads(copied(shown, "Copy JSON"))
    assert document["names"] == ["Square", "kite"]
    boxes = np.multiply([SQUARE_BOX, KITE_BOX], [640, 480] * 2)
    np.testing.assert_allclose(document["boxes"], boxes, atol=1e-3)
    shown.page.keyboard.press("Shift+Tab")
    shown.page.keyboard.press("Shift+Tab")
    shown.page.keyboard.press("ArrowRight")  # to the next tab
    programs = {"curl": ["sh", "-c"], "Python": [sys.executable, "-c"]}
    node = [str(compute_driver_executable()[0]), "--input-type=module", "-e"]
    for language, command in (programs | {"JavaScript": node}).items():
        shown.page.get_by_text(language, exact=True).click()
        program = copied(shown, "Copy code")
        if not shutil.which(command[0]):
            continue
        done = subprocess.run(
            [*command, program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        if language == "curl":
            answer = json.loads(done.stdout)
            for key in ("boxes", "labels", "scores", "names", "image", "model", "box_format"):
                assert answer[key] == document[key]
        else:
            assert [line.split()[:2] for line in done.stdout.splitlines()] == [
                ["Square", "0.9375"],
                ["kite", "0.25"],
            ]
        expect(shown.page.get_by_role("button", name="Copy code")).to_be_visible()


def download(shown: Shown, button: str) -> tuple[str, bytes]:
    """Name and content of the file that a button downloads."""
    with shown.page.expect_download() as file:
        shown.page.get_by_role("button", name=button).click()
    return file.value.suggested_filename, Path(file.value.path()).read_bytes()


def test_the_drawn_picture_and_a_coco_dataset_are_downloaded_as_shown(show: Show) -> None:
    shown = show()
    shown.choose(picture(640, 480), "street.scene.png")
    shown.page.get_by_label("Minimum confidence").fill("0.2")
    shown.page.locator(".chip").nth(0).click()
    shown.lists("Square 0.94", "kite 0.25")
    name, content = download(shown, "Download COCO")
    assert name == "street.scene-coco.json"
    dataset = json.loads(content)
    assert dataset["images"] == [{"id": 1, "file_name": "street.scene.png", "width": 640, "height": 480}]
    boxes = [
        (x1 * 640, y1 * 480, (x2 - x1) * 640, (y2 - y1) * 480) for x1, y1, x2, y2 in (SQUARE_BOX, KITE_BOX)
    ]
    np.testing.assert_allclose([one["bbox"] for one in dataset["annotations"]], boxes, atol=1e-3)
    assert [one["category_id"] for one in dataset["annotations"]] == [FINDS[0][0], FINDS[2][0]]
    for chip in (1, 2):
        shown.page.locator(".chip").nth(chip).click()
    shown.lists()
    assert json.loads(download(shown, "Download COCO")[1])["annotations"] == []
    for chip in (0, 1, 2):
        shown.page.locator(".chip").nth(chip).click()
    shown.page.get_by_label("Minimum confidence").fill("0.8")
    shown.lists("Square 0.94")
    name, content = download(shown, "Download PNG")
    assert name == "street.scene-detections.png"
    with pillow.open(io.BytesIO(content)) as saved:
        assert drawn(np.asarray(saved.convert("RGBA"), np.int64), SQUARE).any()
    options = {"score_threshold": "0.8", "nms_threshold": "0.5", "max_detections": "300"}
    assert shown.queries[-1] == options | {"format": "png"}
