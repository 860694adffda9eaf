"""`rcnn evaluate`: the user's ids, VOC's mAP, the table as CSV, damaged images, the test-time flip."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.shapes.scenes import Scene, draw_scene
from tests.models.evaluation.test_coco import pycocotools
from tests.support.data.annotated import write_coco, write_voc
from tests.support.rcnn import Ran, rcnn

pytestmark = pytest.mark.network

COUNT, SEED = 4, 2


def evaluate(*arguments: object) -> Ran:
    return rcnn("evaluate", *arguments, "--model", "shapes", inference_threads="1")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SEED, index) for index in range(COUNT)]


def change_document(root: Path, change: Any) -> dict[str, Any]:
    """Change the COCO file of a data set; the document."""
    [path] = root.rglob("*.json")
    document: dict[str, Any] = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return document


def own_ids(document: dict[str, Any]) -> None:
    """Ids with gaps, and areas of outlines, as an export of a user has them."""
    for entry in document["images"]:
        entry["id"] += 1000
    for entry in document["categories"]:
        entry["id"] *= 10
    for number, entry in enumerate(document["annotations"], start=1):
        entry["id"] = number
        entry["image_id"] += 1000
        entry["category_id"] *= 10
        entry["area"] = entry["bbox"][2] * entry["bbox"][3] * 0.4


def test_pycocotools_scores_the_results_against_the_users_own_file(
    scenes: list[Scene], tmp_path: Path
) -> None:
    root = write_coco(tmp_path / "data", scenes)
    document = change_document(root, own_ids)
    results, table = tmp_path / "results.json", tmp_path / "table.csv"
    ran = evaluate(root, "--json", "--results", results, "--csv", table)
    assert (ran.code, ran.err) == (0, "")
    run = pycocotools({"info": {}} | document, json.loads(results.read_text()))
    assert list(ran.json["numbers"].values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    truth = json.loads((tmp_path / "results.truth.json").read_text())
    assert {entry["id"] for entry in truth["images"]} == {entry["id"] for entry in document["images"]}
    rows = {row["class"]: row for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    assert set(rows) == {"(all)"} | {each["name"] for each in ran.json["classes"]}
    for each in ran.json["classes"]:
        row = rows[each["name"]]
        assert int(row["objects"]) == each["objects"] == sum(each["objects_by_size"].values())
        if each["objects"]:
            assert float(row["AP50"]) == pytest.approx(each["AP50"])
            assert float(row["best_f1"]) == pytest.approx(each["best_f1"])
    for name, value in ran.json["numbers"].items():
        assert rows["(all)"][name] == ("" if value < 0 else str(value))


def with_faulty_boxes(document: dict[str, Any]) -> None:
    """Repeated, past the border, outside, without an area, ignored by area: what a COCO file may hold."""
    own_ids(document)
    boxes = document["annotations"]
    boxes[0]["bbox"][0] -= boxes[0]["bbox"][2] / 2 + boxes[0]["bbox"][0]
    boxes[1]["iscrowd"] = 1
    boxes[2]["area"] = 2e10
    extra: list[dict[str, Any]] = [
        {},
        {"bbox": [700, 10, 40, 40]},
        {"bbox": [9, 9, 0, 5]},
        {"bbox": [9, 9, -8, 5]},
    ]
    boxes += [boxes[3] | change | {"id": 900 + number} for number, change in enumerate(extra)]


def test_faulty_boxes_count_as_pycocotools_counts_them(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes)
    before = evaluate(root, "--json").json["numbers"]
    document = change_document(root, with_faulty_boxes)
    ran = evaluate(root, "--json", "--results", tmp_path / "results.json")
    assert ran.code == 0
    assert "1 clipped, 1 outside, 1 duplicate; boxes count as the files have them" in ran.err
    run = pycocotools({"info": {}} | document, json.loads((tmp_path / "results.json").read_text()))
    assert list(ran.json["numbers"].values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    assert ran.json["numbers"]["AP"] < before["AP"] - 0.01


def test_voc_counts_difficult_objects_neither_as_found_nor_as_missed(
    scenes: list[Scene], tmp_path: Path
) -> None:
    root = write_voc(tmp_path / "data", scenes)
    whole = evaluate(root, "--json", "--measure", "voc").json["voc"]
    for path in root.rglob("*.xml"):
        text = path.read_text()
        assert "<difficult>" in text or "</name>" in text
        marked = text.replace("<difficult>0</difficult>", "").replace(
            "</name>", "</name><difficult>1</difficult>", 1
        )
        path.write_text(marked)
    ran = evaluate(root, "--json", "--measure", "voc")
    assert ran.json["counts"]["ignored"] == COUNT
    assert sum(each["objects"] for each in ran.json["voc"]["classes"]) == ran.json["counts"]["objects"]
    assert sum(each["objects"] for each in whole["classes"]) == ran.json["counts"]["objects"] + COUNT
    assert 0.3 < ran.json["voc"]["mAP"] <= 1
    table = evaluate(root, "--measure", "voc").out
    assert f"{ran.json['voc']['mAP']:.3f}" in table
    assert "11 points" in table


def test_damaged_images_are_named_and_left_out(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes)
    smaller = write_coco(tmp_path / "smaller", scenes[:-1])
    whole = root / "val" / f"scene{COUNT - 1}.png"
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ran = evaluate(root, "--json")
    assert ran.code == 1
    assert [Path(file).name for file in ran.json["unreadable_images"]] == [whole.name]
    assert f"1 of {COUNT} images could not be read: AP is over the {COUNT - 1} others" in ran.err
    assert ran.json["numbers"] == pytest.approx(evaluate(smaller, "--json").json["numbers"], abs=1e-6)
    for path in (root / "val").glob("*.png"):
        path.write_bytes(path.read_bytes()[:2000] + path.read_bytes()[-20:])  # not seen without decoding
    ran = evaluate(root)
    assert (ran.code, ran.out) == (1, "")
    assert f"{COUNT} images could not be read" in ran.err
    assert "scene0.png: " in ran.err


def test_data_without_objects_have_no_ap(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:1])
    change_document(root, lambda document: [each.update(iscrowd=1) for each in document["annotations"]])
    for command in ("evaluate", "diagnose"):
        ran = rcnn(command, root, "--model", "shapes", inference_threads="1")
        assert (ran.code, ran.out) == (1, ""), command
        assert "nothing to measure on" in ran.err
        assert "crowd" in ran.err


def test_the_flip_scores_mirrored_images_as_it_scores_the_images(scenes: list[Scene], tmp_path: Path) -> None:
    """What is merged is symmetric, which one pass is not."""
    mirrored = []
    for scene in scenes:
        boxes = scene.boxes.copy()
        boxes[:, [0, 2]] = scene.pixels.shape[1] - scene.boxes[:, [2, 0]]
        mirrored.append(Scene(np.ascontiguousarray(scene.pixels[:, ::-1]), boxes, scene.labels))
    roots = [write_coco(tmp_path / name, each) for name, each in (("a", scenes), ("b", mirrored))]
    once = evaluate(roots[0], "--json").json
    one, other = (evaluate(root, "--json", "--flip").json for root in roots)
    assert one["numbers"] == pytest.approx(other["numbers"], abs=1e-3)
    assert one["numbers"] != pytest.approx(once["numbers"], abs=1e-6)
    assert one["counts"]["detections"] == pytest.approx(other["counts"]["detections"], abs=1)
