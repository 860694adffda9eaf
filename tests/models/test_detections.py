"""Detections hold what belongs together or do not exist, and boxes are converted to every format."""

import dataclasses

import numpy as np
import pytest

from models.detections import BOX_FORMATS, BoxFormat, Detections, convert_boxes

BOXES = np.array([[10, 20, 110, 60], [0, 0, 200, 100]], np.float32)
LABELS = np.array([1, 3], np.int64)
SCORES = np.array([0.9, 0.5], np.float32)


def test_detections_hold_their_arrays_in_order() -> None:
    found = Detections(BOXES, LABELS, SCORES)
    assert len(found) == 2
    assert found.boxes.tolist() == BOXES.tolist()
    assert found.labels.tolist() == [1, 3]
    assert found.scores.tolist() == SCORES.tolist()


def test_no_objects_are_legal() -> None:
    found = Detections.empty()
    assert len(found) == 0
    assert (found.boxes.shape, found.labels.shape, found.scores.shape) == ((0, 4), (0,), (0,))
    assert (found.boxes.dtype, found.labels.dtype, found.scores.dtype) == (np.float32, np.int64, np.float32)


def test_detections_cannot_be_changed_from_inside_or_outside() -> None:
    boxes, labels, scores = BOXES.copy(), LABELS.copy(), SCORES.copy()
    found = Detections(boxes, labels, scores)
    for array in (found.boxes, found.labels, found.scores):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    boxes[0], labels[0], scores[0] = 7, 7, 7  # what was passed in still belongs to whoever passed it
    assert (found.boxes[0, 0], found.labels[0], found.scores[0]) == (10, 1, np.float32(0.9))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.boxes = boxes  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "message"),
    [
        (
            BOXES[:1],
            LABELS,
            SCORES,
            r"boxes are float32 \(1, 4\); with 2 scores they must be float32 \(2, 4\)",
        ),
        (BOXES, LABELS[:1], SCORES, r"labels are int64 \(1,\); with 2 scores they must be int64 \(2,\)"),
        (BOXES, LABELS, SCORES[:1], "boxes are"),
        (BOXES[:, :3], LABELS, SCORES, r"boxes are float32 \(2, 3\)"),
        (BOXES.ravel(), LABELS, SCORES, r"boxes are float32 \(8,\)"),
        (BOXES[None], LABELS, SCORES, r"boxes are float32 \(1, 2, 4\)"),
        (BOXES, LABELS, SCORES[:, None], r"scores are float32 \(2, 1\)"),
        (BOXES[:0], LABELS[:0], np.array(0.5, np.float32), r"scores are float32 \(\)"),
        (BOXES.astype(np.float64), LABELS, SCORES, "boxes are float64"),
        (BOXES, LABELS.astype(np.int32), SCORES, "labels are int32"),
        (BOXES, LABELS, SCORES.astype(np.float16), "scores are float16"),
        (np.full((2, 4), np.inf, np.float32), LABELS, SCORES, "boxes contain a number that is not finite"),
        (BOXES, LABELS, SCORES * np.float32(np.nan), "scores contain a number that is not finite"),
    ],
)
def test_inconsistent_arrays_are_refused(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(boxes, labels, scores)


@pytest.mark.parametrize(
    ("box_format", "in_pixels", "in_fractions"),
    [
        ("xyxy", [[10, 20, 110, 60], [0, 0, 200, 100]], [[0.05, 0.2, 0.55, 0.6], [0, 0, 1, 1]]),
        ("xywh", [[10, 20, 100, 40], [0, 0, 200, 100]], [[0.05, 0.2, 0.5, 0.4], [0, 0, 1, 1]]),
        ("cxcywh", [[60, 40, 100, 40], [100, 50, 200, 100]], [[0.3, 0.4, 0.5, 0.4], [0.5, 0.5, 1, 1]]),
    ],
)
def test_boxes_are_converted_to_each_format(
    box_format: BoxFormat, in_pixels: list[list[float]], in_fractions: list[list[float]]
) -> None:
    before = BOXES.copy()
    assert convert_boxes(BOXES, box_format, None).tolist() == in_pixels
    fractions = convert_boxes(BOXES, box_format, (200, 100))
    assert fractions == pytest.approx(np.array(in_fractions), abs=1e-6)
    assert fractions.dtype == np.float32
    assert (before == BOXES).all()


@pytest.mark.parametrize("box_format", BOX_FORMATS)
@pytest.mark.parametrize("size", [None, (200, 100)])
def test_no_boxes_are_converted_to_no_boxes(box_format: BoxFormat, size: tuple[int, int] | None) -> None:
    converted = convert_boxes(Detections.empty().boxes, box_format, size)
    assert (converted.shape, converted.dtype) == ((0, 4), np.float32)


@pytest.mark.parametrize("box_format", BOX_FORMATS)
def test_the_boxes_of_detections_can_be_converted_and_the_result_be_written_to(box_format: BoxFormat) -> None:
    found = Detections(BOXES, LABELS, SCORES)
    convert_boxes(found.boxes, box_format, None)[0, 0] = 5
    assert found.boxes[0, 0] == 10


def test_impossible_conversions_are_refused() -> None:
    with pytest.raises(ValueError, match="'yolo' is unknown; allowed are xyxy, xywh, cxcywh"):
        convert_boxes(BOXES, "yolo", None)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match=r"size is \(0, 100\)"):
        convert_boxes(BOXES, "xyxy", (0, 100))
    with pytest.raises(ValueError, match=r"boxes are \(2, 3\); they must be \(N, 4\)"):
        convert_boxes(BOXES[:, :3], "xyxy", None)
