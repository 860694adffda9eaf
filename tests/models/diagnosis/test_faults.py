"""Models and data broken on purpose, each of which the right check must name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.detections import Detections
from models.detector import Detector
from models.diagnosis.anchors import judge_anchors, measure_anchors
from models.diagnosis.coordinates import judge_coordinates, measure_coordinates
from models.diagnosis.inspection import InspectedImage, InspectedModel, inspect_images
from models.diagnosis.nms import judge_sweep, sweep_thresholds
from models.engines import EngineChoice, build_engine
from models.evaluation.labels import match_labels
from models.images.decoder import Limits
from models.shapes.evaluate import scene_truth
from models.shapes.scenes import LABELS, Scene, draw_scene
from models.zoo.cards import Card
from models.zoo.loading import load_network
from tests.support.data.annotated import write_images

pytestmark = pytest.mark.network

SEED, COUNT = 2, 4
Inspect = Callable[..., tuple[Detector, list[InspectedImage]]]


@pytest.fixture(scope="module")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Inspect:
    """The bundled weights with these anchors, or their own, on these scenes."""

    def inspect(
        scenes: list[Scene], anchors: AnchorGenerator | None = None
    ) -> tuple[Detector, list[InspectedImage]]:
        loaded = load_network("shapes", None, Path())
        if anchors is not None:
            loaded.network.rpn.anchor_generator = anchors
        engine = build_engine(loaded.network, EngineChoice("cpu", "torch", "fp32", 1))
        detector = Detector(loaded.network, loaded.card, engine)
        model = InspectedModel(detector, match_labels(LABELS, loaded.card.labels), Limits(10**7))
        files = write_images(tmp_path_factory.mktemp("data") / "images", scenes)
        truths = [scene_truth(scene) for scene in scenes]
        return detector, list(inspect_images(model, truths, files, lambda: None))

    return inspect


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def healthy(inspect: Inspect, scenes: list[Scene]) -> tuple[Card, list[InspectedImage]]:
    detector, images = inspect(scenes)
    return detector.card, images


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


def test_an_nms_threshold_that_is_too_low_is_named(inspect: Inspect, scenes: list[Scene]) -> None:
    _, images = inspect([overlapping(scene) for scene in scenes])
    sweep = sweep_thresholds(images, LABELS, own=0.1, score_threshold=0.5)
    finding = judge_sweep(sweep)
    assert finding.verdict == "fault"
    assert "the NMS threshold (0.1, where" in finding.culprit
    assert sweep.own.AP < sweep.best.AP
    assert sweep.own.lost > sweep.best.lost
    assert sweep.own.crowded > 0
    again = judge_sweep(sweep_thresholds(images, LABELS, sweep.best.threshold, 0.5))
    assert again.verdict != "fault", "the advice helps"


def test_an_nms_threshold_that_is_too_high_is_named(healthy: tuple[Card, list[InspectedImage]]) -> None:
    finding = judge_sweep(sweep_thresholds(healthy[1], LABELS, own=0.9, score_threshold=0.5))
    assert finding.verdict == "fault"
    assert "duplicates" in finding.reason


@pytest.mark.parametrize(
    ("sizes", "ratios", "reason"),
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
    inspect: Inspect,
    scenes: list[Scene],
    sizes: tuple[int, ...],
    ratios: tuple[float, ...],
    reason: str,
) -> None:
    detector, images = inspect(scenes, AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 4))
    finding = judge_anchors(measure_anchors(images, detector.proposal_config.anchors))
    assert finding.verdict == "fault"
    assert reason in finding.reason
    suggested = finding.numbers["suggested"]
    assert suggested["shape_fit"] > finding.numbers["shape_fit"]
    made = eval(suggested["code"], {"AnchorGenerator": AnchorGenerator})  # noqa: S307  # our own text is code
    assert len(made.sizes) == len(made.aspect_ratios) == 4
    assert 16 < min(suggested["sizes"]) < max(suggested["sizes"]) < 200


MISTAKES: dict[str, Callable[[np.ndarray[Any, Any], InspectedImage], np.ndarray[Any, Any]]] = {
    "x and y of the annotations are swapped": lambda boxes, image: boxes[:, [1, 0, 3, 2]],
    "the annotations are fractions of the image": lambda boxes, image: (
        boxes / np.array([image.truth.width, image.truth.height] * 2)
    ),
    "the annotations are in canvas pixels": lambda boxes, image: (
        boxes * np.array([*image.scale, *image.scale])
    ),
    "the annotations are of images twice as large": lambda boxes, image: boxes * 2,
    "the annotations have x, y of the centre": lambda boxes, image: (
        boxes + np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_annotations_in_another_space_are_named(
    healthy: tuple[Card, list[InspectedImage]], mistake: str
) -> None:
    card, images = healthy
    moved = [
        replace(
            image,
            truth=replace(image.truth, boxes=MISTAKES[mistake](image.truth.boxes, image).astype(np.float32)),
        )
        for image in images
    ]
    finding = judge_coordinates(measure_coordinates(moved, card.nms_threshold, card.score_threshold))
    assert finding.verdict == "fault"
    assert finding.reason.startswith(mistake)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(1.0, "the detections are left in canvas pixels"), (1 / 16, "in feature-map pixels (stride 16)")],
)
def test_detections_in_another_space_are_named(
    healthy: tuple[Card, list[InspectedImage]], factor: float, reason: str
) -> None:
    card, images = healthy
    moved = []
    for image in images:
        found = image.candidates
        boxes = (found.boxes * np.array([*image.scale, *image.scale]) * factor).astype(np.float32)
        moved.append(replace(image, candidates=Detections(boxes, found.labels, found.scores)))
    finding = judge_coordinates(measure_coordinates(moved, card.nms_threshold, card.score_threshold))
    assert finding.verdict == "fault"
    assert reason in finding.reason
