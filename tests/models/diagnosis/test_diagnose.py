"""`rcnn diagnose`: its verdicts on a healthy model, its report, and what it refuses."""

from pathlib import Path

import pytest
from PIL import Image as pillow

from models.shapes.scenes import LABELS, Scene, draw_scene
from tests.support.data.annotated import write_coco
from tests.support.data.cards import write_card
from tests.support.data.training_log import write_log
from tests.support.rcnn import Ran, rcnn
from tests.support.served import ROOT

SEED, COUNT = 2, 8
CHECKS = {"recall", "suppression", "coordinates", "anchors", "balance", "localisation"}

pytestmark = pytest.mark.network


def diagnose(*arguments: object) -> Ran:
    """`rcnn diagnose` with these arguments, on one thread of the CPU."""
    return rcnn("diagnose", *arguments, inference_threads=1, engine="torch")


def verdicts(ran: Ran) -> dict[str, str]:
    return {name: check["verdict"] for name, check in ran.json["checks"].items()}


def bundled(folder: Path, name: str, **changes: object) -> Path:
    """The bundled model's card with other values; its weights are beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "mine.safetensors").symlink_to(ROOT / "models" / "zoo" / "shapes.safetensors")
    return write_card(folder, name=name, labels=LABELS, **({"min_size": 320, "max_size": 576} | changes))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, scenes: list[Scene]) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", scenes)


def test_a_healthy_model_has_no_fault(data: Path, scenes: list[Scene]) -> None:
    """And its numbers are those of `rcnn evaluate`: the detector itself, NMS and all."""
    ran = diagnose(data, "--model", "shapes", "--split", "val", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert verdicts(ran) == dict.fromkeys(CHECKS, "ok") | {"balance": "not measured"}
    assert ran.json["summary"] == "No fault found."
    assert ran.json["faults"] == []
    found = ran.json["checks"]
    assert "no metrics.jsonl" in found["balance"]["reason"]
    recall = found["recall"]["numbers"]
    assert recall["proposals"] == [10, 50, 100, 300, 1000]
    for row in recall["recall"].values():
        assert row == sorted(row), "more proposals match no fewer objects"
    assert recall["objects"]["all"] == sum(len(scene.labels) for scene in scenes)
    sweep = found["suppression"]["numbers"]["sweep"]
    assert [setting["threshold"] for setting in sweep] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert sweep[-1]["duplicates"] > sweep[4]["duplicates"]
    assert found["suppression"]["numbers"]["card"] == 0.5
    numbers = rcnn("evaluate", data, "--model", "shapes", "--split", "val", "--json", engine="torch").json[
        "numbers"
    ]
    assert sweep[4]["AP"] == pytest.approx(numbers["AP"], abs=1e-6)
    assert found["localisation"]["numbers"]["AP75"] == pytest.approx(numbers["AP75"], abs=1e-6)


def test_unfit_anchors_are_named_first_in_the_report(data: Path, tmp_path: Path) -> None:
    """At 64 px the objects are about 12 px large, and the smallest anchor 32. Each check has its plot."""
    log = write_log(tmp_path / "metrics.jsonl", lambda step: {"score": 0.5} if step % 10 == 0 else {})
    out, card = tmp_path / "new" / "out", bundled(tmp_path, "tiny", min_size=64, max_size=115)
    ran = diagnose(data, "--model", card, "--images", 3, "--metrics", log, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert "3 of 8 images" in ran.out
    assert "At fault: the anchors. Also at fault, perhaps as a consequence: the RPN's recall" in ran.out
    assert "Train with AnchorGenerator(((" in ran.out
    report = (out / "diagnosis.md").read_text()
    assert "**At fault: the anchors." in report
    assert "| k-means suggests |" in report
    for check in CHECKS:
        assert f"]({check}.png)" in report
        assert f"written: {out / check}.png" in ran.out
        with pillow.open(out / f"{check}.png") as image:
            assert min(image.size) >= 600
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 50
    for title in ("Proposal recall", "NMS threshold", "Coordinates", "Anchors", "Loss parts", "AP50"):
        assert title in ran.out


def test_the_log_beside_the_card_is_read(data: Path, tmp_path: Path) -> None:
    card = bundled(tmp_path / "run", "model")
    write_log(tmp_path / "run" / "metrics.jsonl", lambda step: {"loss_box_reg": 0.0001})
    ran = diagnose(data, "--model", card, "--images", 2, "--json")
    assert verdicts(ran)["balance"] == "fault"
    assert "the training losses" in ran.json["summary"]
    assert "class loss is 1001 times the box loss" in ran.json["checks"]["balance"]["reason"]
    (tmp_path / "run" / "metrics.jsonl").write_text("not JSON\n")
    broken = diagnose(data, "--model", card, "--images", 2)
    assert broken.code == 1
    assert "metrics.jsonl, line 1: not JSON" in broken.err


def test_what_cannot_be_done_is_refused(data: Path, scenes: list[Scene], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert diagnose(tmp_path / "none").code == 2
    assert diagnose(data, "--images", 0).code == 2
    assert diagnose(data, "--metrics", tmp_path / "none.jsonl").code == 2
    unwritable = diagnose(data, "--model", "nonesuch", "--out", tmp_path / "file" / "deep")
    assert unwritable.code == 1
    assert unwritable.err.startswith(f"rcnn: --out {tmp_path / 'file'}")
    unknown = diagnose(data, "--model", "nonesuch")
    assert (unknown.code, unknown.out) == (1, "")
    assert "nonesuch" in unknown.err
    others = write_coco(
        tmp_path / "others", scenes[:1], ("background", *(f"no {name}" for name in LABELS[1:]))
    )
    assert "knows no class of the data" in diagnose(others, "--model", "shapes").err


def test_unreadable_images_are_reported(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:2])
    file = root / "val" / "scene1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    ran = diagnose(root, "--model", "shapes", "--json")
    assert ran.code == 0
    assert ran.json["data"]["images"] == 1
    assert "1 of 2 images could not be read" in ran.err
