"""`rcnn diagnose`: a healthy model; and models, data and trainings broken on purpose, which it must name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.detections import Detections
from models.detector import Detector
from models.diagnosis.anchors import judge_anchors, measure_anchors
from models.diagnosis.balance import judge_balance, read_balance
from models.diagnosis.clusters import cluster, shape_ious
from models.diagnosis.coordinates import judge_coordinates, measure_coordinates
from models.diagnosis.localisation import judge_localisation, measure_localisation
from models.diagnosis.nms import sweep_thresholds
from models.diagnosis.observation import Observation, Subject, observe
from models.diagnosis.recall import measure_recall
from models.engines import EngineChoice, build_engine
from models.evaluation.coco import GroundTruth
from models.evaluation.labels import match_labels
from models.images.decoder import Limits
from models.shapes.scenes import LABELS, Scene, draw_scene
from models.zoo.cards import Card
from models.zoo.loading import load_network
from tests.conftest import ROOT
from tests.support.annotated import write_coco, write_voc
from tests.support.rcnn import Ran, rcnn

SEED, COUNT = 2, 8
CHECKS = {"recall", "suppression", "coordinates", "anchors", "balance", "localisation"}
PARTS = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")


def diagnose(*arguments: object) -> Ran:
    """`rcnn diagnose` with these arguments, on one thread of the CPU."""
    return rcnn("diagnose", *arguments, inference_threads=1, engine="torch")


def verdicts(ran: Ran) -> dict[str, str]:
    return {name: check["verdict"] for name, check in ran.json["checks"].items()}


# -- data, cards and logs ------------------------------------------------------------------------------------


def overlapping(scene: Scene) -> Scene:
    """The scene with a shifted copy over each object, so that pairs of one class overlap by IoU 0.33."""
    width = scene.pixels.shape[1]
    pixels, boxes, labels = scene.pixels.copy(), [], []
    for box, label in zip(scene.boxes.astype(int).tolist(), scene.labels.tolist(), strict=True):
        x1, y1, x2, y2 = box
        step = round((x2 - x1) * 0.5)
        if x2 + step <= width:
            pixels[y1:y2, x1 + step : x2 + step] = scene.pixels[y1:y2, x1:x2]
            boxes.append([x1 + step, y1, x2 + step, y2])
            labels.append(label)
        boxes.append(box)
        labels.append(label)
    return Scene(pixels, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def write_card(folder: Path, name: str, **changes: object) -> Path:
    """The bundled model's card with other values, and its weights beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "shapes.safetensors"
    if not weights.exists():
        weights.symlink_to(ROOT / "models" / "zoo" / "shapes.safetensors")
    values = {
        "name": name,
        "architecture": "small",
        "weights": "file:shapes.safetensors",
        "labels": list(LABELS),
        "min_size": 320,
        "max_size": 576,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in (values | changes).items()]
    card = folder / f"{name}.toml"
    card.write_text("\n".join(lines))
    return card


def write_log(path: Path, change: Callable[[int], dict[str, float]], steps: int = 100) -> Path:
    """A log of a training that settles at losses of 0.1, but for what `change` says of a step."""
    entries: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        settled = dict.fromkeys(PARTS, 0.1 + 1.0 / step**2)
        entries.append({"step": step, "lr": 1e-3, "norm": 1.0, **settled, **change(step)})
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, scenes: list[Scene]) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", scenes)


# -- through the command -------------------------------------------------------------------------------------


def test_a_healthy_model_has_no_fault(data: Path, scenes: list[Scene]) -> None:
    ran = diagnose(data, "--model", "shapes", "--split", "val", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert verdicts(ran) == dict.fromkeys(CHECKS, "ok") | {"balance": "not measured"}
    assert ran.json["summary"] == "No fault found."
    assert ran.json["faults"] == []
    assert "no metrics.jsonl" in ran.json["checks"]["balance"]["reason"]
    recall = ran.json["checks"]["recall"]["numbers"]
    assert recall["proposals"] == [10, 50, 100, 300, 1000]
    for row in recall["recall"].values():
        assert row == sorted(row), "more proposals meet no fewer objects"
    assert recall["objects"]["all"] == sum(len(scene.labels) for scene in scenes)
    sweep = ran.json["checks"]["suppression"]["numbers"]["sweep"]
    assert [one["threshold"] for one in sweep] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert sweep[-1]["duplicates"] > sweep[4]["duplicates"]


def test_it_counts_as_evaluate_does(data: Path) -> None:
    """AP of the sweep at the card's threshold is that of the detector itself, NMS and all."""
    from tests.app.commands.test_evaluate import evaluate

    numbers = evaluate(data, "--model", "shapes", "--split", "val", "--json", engine="torch").json["numbers"]
    found = diagnose(data, "--model", "shapes", "--split", "val", "--json").json["checks"]
    at_card = next(one for one in found["suppression"]["numbers"]["sweep"] if one["threshold"] == 0.5)
    assert at_card["AP"] == pytest.approx(numbers["AP"], abs=1e-6)
    assert found["localisation"]["numbers"]["AP75"] == pytest.approx(numbers["AP75"], abs=1e-6)


def test_an_nms_threshold_that_is_too_low_is_named(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", [overlapping(scene) for scene in scenes[:6]])
    low = diagnose(
        root, "--model", write_card(tmp_path / "cards", "low", nms_threshold=0.1), "--split", "val", "--json"
    )
    assert low.code == 0
    assert verdicts(low)["suppression"] == "fault"
    assert "the NMS threshold (0.1, where" in low.json["summary"]
    numbers = low.json["checks"]["suppression"]["numbers"]
    own, best = (
        next(one for one in numbers["sweep"] if one["threshold"] == numbers[name])
        for name in ("card", "best")
    )
    assert own["AP"] < best["AP"]
    assert own["lost"] > best["lost"]
    assert own["crowded"] > 0
    better = write_card(tmp_path / "cards", "better", nms_threshold=numbers["best"])
    again = diagnose(root, "--model", better, "--split", "val", "--json")
    assert verdicts(again)["suppression"] != "fault", "the advice mends it"


def test_an_nms_threshold_that_is_too_high_is_named(data: Path, tmp_path: Path) -> None:
    high = diagnose(data, "--model", write_card(tmp_path, "high", nms_threshold=0.9), "--images", 4, "--json")
    assert verdicts(high)["suppression"] == "fault"
    assert "duplicates" in high.json["checks"]["suppression"]["reason"]


def test_anchors_that_do_not_fit_the_canvas_are_named_first(data: Path, tmp_path: Path) -> None:
    """At 64 px the objects are about 12 px large, and the smallest anchor 32."""
    out = tmp_path / "out"
    ran = diagnose(data, "--model", write_card(tmp_path, "tiny", min_size=64, max_size=115), "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert "At fault: the anchors. Also at fault, perhaps for that reason: the RPN's recall" in ran.out
    assert "Train with AnchorGenerator(((" in ran.out
    report = (out / "diagnosis.md").read_text()
    assert "**At fault: the anchors." in report
    assert "| k-means suggests |" in report


def test_pictures_and_report_are_written(data: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "metrics.jsonl", lambda step: {"score": 0.5} if step % 10 == 0 else {})
    out = tmp_path / "new" / "out"
    ran = diagnose(data, "--model", "shapes", "--images", 3, "--metrics", log, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert "3 of 8 images" in ran.out
    report = (out / "diagnosis.md").read_text()
    for check in CHECKS:
        assert f"]({check}.png)" in report
        assert f"written: {out / check}.png" in ran.out
        with pillow.open(out / f"{check}.png") as image:
            assert min(image.size) >= 600
            assert len(image.convert("RGB").getcolors(2**24) or ()) > 50
    for title in ("Proposal recall", "NMS threshold", "Coordinates", "Anchors", "Loss parts", "AP50"):
        assert title in ran.out


def test_the_log_beside_the_card_is_read(data: Path, tmp_path: Path) -> None:
    card = write_card(tmp_path / "run", "model")
    write_log(tmp_path / "run" / "metrics.jsonl", lambda step: {"loss_box_reg": 0.0001})
    ran = diagnose(data, "--model", card, "--images", 2, "--json")
    assert verdicts(ran)["balance"] == "fault"
    assert "the training losses" in ran.json["summary"]
    assert "class loss is 1001 times the box loss" in ran.json["checks"]["balance"]["reason"]
    (tmp_path / "run" / "metrics.jsonl").write_text("not JSON\n")
    broken = diagnose(data, "--model", card, "--images", 2)
    assert broken.code == 1
    assert "metrics.jsonl, line 1: not JSON" in broken.err


def test_what_cannot_be_done_is_told(data: Path, scenes: list[Scene], tmp_path: Path) -> None:
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


def test_images_that_cannot_be_read_are_told(scenes: list[Scene], tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", scenes[:2])
    file = root / "val" / "scene1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    ran = diagnose(root, "--model", "shapes", "--json")
    assert ran.code == 0
    assert ran.json["data"]["images"] == 1
    assert "1 of 2 images could not be read" in ran.err


# -- faults that no card can have ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def look(
    data: Path, scenes: list[Scene]
) -> Callable[[AnchorGenerator | None], tuple[Detector, list[Observation]]]:
    """The bundled weights with these anchors, or its own, on the first scenes."""

    def look(anchors: AnchorGenerator | None) -> tuple[Detector, list[Observation]]:
        loaded = load_network("shapes", None, Path())
        if anchors is not None:
            loaded.network.rpn.anchor_generator = anchors
        engine = build_engine(loaded.network, EngineChoice("cpu", "torch", "fp32", 1))
        detector = Detector(loaded.network, loaded.card, engine)
        subject = Subject(detector, match_labels(LABELS, loaded.card.labels), Limits(10**7))
        files = [data / "val" / f"scene{k}.png" for k in range(4)]
        return detector, list(
            observe(subject, [truth_of(scene) for scene in scenes[:4]], files, lambda: None)
        )

    return look


@pytest.fixture(scope="module")
def healthy(
    look: Callable[[AnchorGenerator | None], tuple[Detector, list[Observation]]],
) -> tuple[Card, list[Observation]]:
    detector, observations = look(None)
    return detector.card, observations


def truth_of(scene: Scene) -> GroundTruth:
    height, width = scene.pixels.shape[:2]
    return GroundTruth(width, height, scene.boxes, scene.labels)


@pytest.mark.parametrize(
    ("sizes", "ratios", "told"),
    [
        ((256, 512, 1024, 2048), (0.5, 1.0, 2.0), "have no anchor of IoU 0.5"),
        ((32, 64, 128, 256), (0.05, 0.1, 0.2), "have no anchor of IoU 0.5"),
        # These would do for the objects, but the weights have learned to start from others.
        (
            (64, 128, 256, 512),
            (0.5, 1.0, 2.0),
            "proposals lie on the objects but are about 2.0 times as large",
        ),
        ((16, 32, 64, 128), (0.5, 1.0, 2.0), "proposals lie on the objects but are about 0.5 times as large"),
    ],
)
def test_wrong_anchors_are_named(
    look: Callable[[AnchorGenerator | None], tuple[Detector, list[Observation]]],
    sizes: tuple[int, ...],
    ratios: tuple[float, ...],
    told: str,
) -> None:
    detector, observations = look(AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 4))
    finding = judge_anchors(measure_anchors(observations, detector.proposal_config.anchors))
    assert finding.verdict == "fault"
    assert told in finding.reason
    suggested = finding.numbers["suggested"]
    assert suggested["shape_fit"] > finding.numbers["shape_fit"]
    made = eval(suggested["code"], {"AnchorGenerator": AnchorGenerator})  # noqa: S307  # our own text is code
    assert len(made.sizes) == len(made.aspect_ratios) == 4
    assert 16 < min(suggested["sizes"]) < max(suggested["sizes"]) < 200


MISTAKES: dict[str, Callable[[np.ndarray[Any, Any], Observation], np.ndarray[Any, Any]]] = {
    "x and y of the annotations are swapped": lambda boxes, one: boxes[:, [1, 0, 3, 2]],
    "the annotations are fractions of the image": lambda boxes, one: (
        boxes / np.array([one.truth.width, one.truth.height] * 2)
    ),
    "the annotations are in canvas pixels": lambda boxes, one: boxes * np.array([*one.scale, *one.scale]),
    "the annotations are of images twice as large": lambda boxes, one: boxes * 2,
    "the annotations have x, y of the centre": lambda boxes, one: (
        boxes + np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_annotations_in_another_space_are_named(
    healthy: tuple[Card, list[Observation]], mistake: str
) -> None:
    card, observations = healthy
    moved = [
        replace(
            one, truth=replace(one.truth, boxes=MISTAKES[mistake](one.truth.boxes, one).astype(np.float32))
        )
        for one in observations
    ]
    finding = judge_coordinates(measure_coordinates(moved, card.nms_threshold, card.score_threshold))
    assert finding.verdict == "fault"
    assert finding.reason.startswith(mistake)


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.0, "the detections are left in canvas pixels"), (1 / 16, "in feature-map pixels (stride 16)")],
)
def test_detections_in_another_space_are_named(
    healthy: tuple[Card, list[Observation]], factor: float, told: str
) -> None:
    card, observations = healthy
    moved = []
    for one in observations:
        found = one.candidates
        boxes = (found.boxes * np.array([*one.scale, *one.scale]) * factor).astype(np.float32)
        moved.append(replace(one, candidates=Detections(boxes, found.labels, found.scores)))
    finding = judge_coordinates(measure_coordinates(moved, card.nms_threshold, card.score_threshold))
    assert finding.verdict == "fault"
    assert told in finding.reason


# -- counts by hand ------------------------------------------------------------------------------------------


def observation(
    objects: list[list[float]], labels: list[int], found: list[tuple[list[float], int, float]]
) -> Observation:
    """An image with these objects, and these candidates (box, label, score), which are proposals as well."""
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    candidates = Detections(
        boxes,
        np.array([label for _, label, _ in found], np.int64),
        np.array([score for _, _, score in found], np.float32),
    )
    truth = GroundTruth(400, 300, np.array(objects, np.float32).reshape(-1, 4), np.array(labels, np.int64))
    return Observation(truth, candidates, boxes, (1.0, 1.0), np.ones(len(labels)))


NAMES = ("background", "a", "b")
A, BESIDE, FAR = [0.0, 0.0, 100.0, 100.0], [50.0, 0.0, 150.0, 100.0], [200.0, 200.0, 250.0, 250.0]


def test_errors_are_told_apart() -> None:
    one = observation(
        [A, FAR, [300, 0, 340, 40], [0, 200, 50, 250]],
        [1, 2, 1, 1],
        [
            (A, 1, 0.9),  # right
            ([0, 0, 100, 90], 1, 0.8),  # a duplicate, that NMS at 0.95 leaves
            (FAR, 1, 0.7),  # the other class
            ([300, 0, 380, 40], 1, 0.65),  # IoU 0.5: right
            ([0, 200, 50, 215], 1, 0.6),  # IoU 0.3: localisation
            ([350, 250, 390, 290], 2, 0.6),  # background
            ([350, 200, 390, 240], 2, 0.2),  # under the threshold
        ],
    )
    found = measure_localisation([one], NAMES, nms_threshold=0.95, score_threshold=0.5)
    assert found.errors == {"missed": 0, "localisation": 1, "confusion": 1, "duplicate": 1, "background": 1}
    assert (found.right, found.objects) == (2, 4)
    blind = measure_localisation([observation([A, FAR], [1, 2], [])], NAMES, 0.5, 0.5)
    assert blind.errors["missed"] == 2
    finding = judge_localisation(blind)
    assert (finding.verdict, finding.culprit) == ("fault", "missed objects")


def test_boxes_that_lie_badly_are_named() -> None:
    loose = observation([A, FAR], [1, 2], [([0, 0, 100, 65], 1, 0.9), ([200, 200, 250, 232], 2, 0.9)])
    finding = judge_localisation(measure_localisation([loose], NAMES, 0.5, 0.5))
    assert (finding.verdict, finding.culprit) == ("fault", "localisation (boxes lie badly)")


def test_lost_and_duplicates_are_counted() -> None:
    """A and its neighbour overlap by IoU 1/3; A has a second box with IoU 0.9."""
    one = observation([A, BESIDE], [1, 1], [(A, 1, 0.9), (BESIDE, 1, 0.8), ([0, 0, 100, 90], 1, 0.7)])
    sweep = sweep_thresholds([one], NAMES, own=0.25, score_threshold=0.5)
    counted = {s.threshold: (s.duplicates, s.lost, s.crowded) for s in sweep.settings}
    assert counted[0.25] == counted[0.1] == counted[0.3] == (0, 1, 2)
    assert counted[0.4] == counted[0.8] == (0, 0, 0)
    assert counted[0.9] == (1, 0, 0)
    assert sweep.best.threshold == 0.4


def test_recall_counts_proposals_from_the_best_on() -> None:
    ten = [(FAR, 1, 0.9)] * 10
    one = observation([A, FAR], [1, 2], [*ten, ([0, 0, 100, 60], 1, 0.5)])
    recall = measure_recall([one], NAMES, own=300)
    assert recall.table.tolist() == [[0.5, 1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5, 0.5]]
    assert recall.by_class == {"a": (1.0, 0.0), "b": (1.0, 1.0)}
    assert recall.objects == {"a": 1, "b": 1, "small": 0, "medium": 1, "large": 1, "all": 2}


def test_k_means_finds_the_shapes_that_are_there() -> None:
    rng = np.random.default_rng(1)
    true = np.array([[10.0, 20.0], [60.0, 60.0], [300.0, 100.0]])
    shapes = true[rng.integers(3, size=300)] * rng.normal(1, 0.03, (300, 2))
    found = cluster(shapes, 3)
    assert found == pytest.approx(true, rel=0.05)
    assert len(cluster(true, 9)) == 3, "no more centres than shapes"
    assert shape_ious(np.array([[10.0, 20.0]]), np.array([[20.0, 10.0]])) == pytest.approx(100 / 300)


# -- the balance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "verdict", "told"),
    [
        (lambda step: {}, "ok", "settled"),
        (lambda step: {"loss_classifier": 0.001}, "fault", "box loss is 100 times the class loss"),
        (lambda step: {"loss_box_reg": 0.01}, "suspicious", "class loss is 10 times the box loss"),
        (lambda step: {"loss_objectness": 3.0}, "fault", "the RPN has not learned"),
        (lambda step: {"loss_classifier": 0.1 + step / 300}, "fault", "rose again"),
        (lambda step: {"loss_classifier": 0.7 - step / 200}, "suspicious", "still falling"),
        (lambda step: {"score": 0.8 - step / 1000}, "suspicious", "overfitting"),
    ],
)
def test_losses_out_of_balance_are_named(
    change: Callable[[int], dict[str, float]], verdict: str, told: str, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "metrics.jsonl", change)
    finding = judge_balance(read_balance(log), log)
    assert finding.verdict == verdict, finding.reason
    assert told in finding.reason


def test_parts_that_take_turns_are_not_compared(tmp_path: Path) -> None:
    """The alternating schedule trains the RPN and the head in turn."""
    log = tmp_path / "metrics.jsonl"
    turns = [{"loss_objectness": 0.1, "loss_rpn_box_reg": 0.1}] * 50
    turns += [{"loss_classifier": 0.6, "loss_box_reg": 0.5}] * 50
    log.write_text("".join(json.dumps(entry) + "\n" for entry in turns))
    finding = judge_balance(read_balance(log), log)
    assert finding.verdict == "ok"
    json.dumps(finding.to_dict(), allow_nan=False)
    log.write_text(json.dumps(turns[0]))
    short = judge_balance(read_balance(log), log)
    assert short.verdict == "not measured"
    assert "fewer than 10 steps" in short.reason
