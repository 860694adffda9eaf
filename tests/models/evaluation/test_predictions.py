"""Detections of image files, and classes matched by name."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from models.detections import Detections
from models.evaluation.coco import as_sent
from models.evaluation.labels import match_labels
from models.evaluation.local import detect_files
from models.evaluation.predictions import DetectionFailed, detect_each, map_ahead
from models.images.decoder import Limits
from models.options import Options
from tests.support.data.ground_truth import CAT, detections_of
from tests.support.data.networks import random_detector
from tests.support.fakes import picture

SQUARE, FAR, LONELY = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 70.0, 70.0), (150.0, 0.0, 180.0, 30.0)


def test_classes_are_matched_by_name() -> None:
    match = match_labels(("background", "dog", "Cat", "eel"), ("background", "CAT", "N/A", "dog", "owl"))
    assert match.to_data.tolist() == [0, 2, 0, 1, 0]
    assert (match.missing, match.extra, match.known) == (("eel",), ("owl",), {1, 3})
    detections = detections_of((1, 0.9, SQUARE), (4, 0.8, FAR), (3, 0.7, LONELY))
    translated = match.translate(detections)
    assert (translated.labels.tolist(), translated.boxes.tolist()) == ([2, 1], [list(SQUARE), list(LONELY)])
    assert len(match.translate(Detections.empty())) == 0


def test_the_exact_name_comes_first() -> None:
    match = match_labels(("background", "cat", "Cat"), ("background", "Cat", "CAT"))
    assert match.to_data.tolist() == [0, 2, 0]
    assert match.missing == ("cat",)
    assert match_labels(("background", "N/A"), ("background", "N/A")).missing == ("N/A",)


def test_items_are_begun_at_most_two_per_thread_ahead() -> None:
    begun: list[int] = []
    gate = Event()

    def work(item: int) -> int:
        begun.append(item)
        assert gate.wait(20)
        return item * 2

    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            if item == 4:
                gate.set()
            yield item

    results = map_ahead(work, items(), threads=2)
    assert next(results) == 0
    assert len(taken) == 5
    assert [*results] == [2 * item for item in range(1, 100)]
    assert sorted(begun) == taken == list(range(100))


def test_a_file_with_a_fault_has_no_detections(tmp_path: Path) -> None:
    def detect(file: Path) -> Detections:
        if file.name == "bad":
            raise DetectionFailed("no image")
        file.read_bytes()
        return detections_of((CAT, 0.5, SQUARE))

    (tmp_path / "good").write_bytes(b"")
    predictions = list(detect_each(detect, [tmp_path / name for name in ("bad", "good", "none")]))
    assert [(a.index, len(a.detections)) for a in predictions] == [(0, 0), (1, 1), (2, 0)]
    assert [a.fault for a in predictions] == ["no image", None, "No such file or directory"]


@pytest.mark.network
def test_batches_change_nothing_but_the_order(tmp_path: Path) -> None:
    sizes = [(64, 48), (48, 64), (64, 48), (64, 48), (48, 64), (100, 30)]
    files = [tmp_path / f"{number}.png" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(picture(*size))
    files.insert(2, tmp_path / "none.png")
    detector, options = random_detector(), Options(0.05, 0.5, 20)
    single, batched = (
        {a.index: a for a in detect_files(detector, files, options, Limits(10_000), batch)}
        for batch in (1, 2)
    )
    assert set(single) == set(batched) == set(range(7))
    assert single[2].fault == batched[2].fault == "No such file or directory"
    assert min(len(single[index].detections) for index in (0, 1, 3, 4, 5, 6)) > 0
    for index, detections in single.items():
        np.testing.assert_allclose(batched[index].detections.boxes, detections.detections.boxes, atol=0.01)
        np.testing.assert_array_equal(batched[index].detections.labels, detections.detections.labels)
        np.testing.assert_array_equal(detections.detections.boxes, as_sent(detections.detections).boxes)
    assert list(single) == list(range(7)), "without batches nothing waits"
