"""Evaluation: the numbers of pycocotools, curves and confusion by hand, pictures that can be looked at."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.detections import Detections
from models.evaluation.assessment import Assessment, assess
from models.evaluation.coco import (
    NUMBERS,
    RECALLS,
    GroundTruth,
    as_sent,
    evaluate,
    result_rows,
    score,
    truth_document,
)
from models.evaluation.curves import confuse, trace_curve
from models.evaluation.labels import match_labels
from models.evaluation.local import detect_files
from models.evaluation.plots import draw_pictures
from models.evaluation.predictions import DetectionFailed, detect_each, map_ahead
from models.images.decoder import Limits
from models.options import Options
from tests.support.fakes import picture
from tests.support.networks import random_detector

LABELS = ("background", "cat", "dog")
CAT, DOG = 1, 2


def random_truths(count: int, classes: int = 2, crowds: float = 0.0) -> list[GroundTruth]:
    rng = np.random.default_rng(1)
    truths = []
    for _ in range(count):
        start = rng.uniform(0, 200, (4, 2))
        boxes = np.concatenate([start, start + rng.uniform(10, 150, (4, 2))], 1).astype(np.float32)
        labels = rng.integers(1, classes + 1, 4)
        truths.append(GroundTruth(400, 400, boxes, labels, rng.random(4) < crowds))
    return truths


def noisy_answers(truths: list[GroundTruth], classes: int = 2) -> list[Detections]:
    """Right boxes moved a little, some with the wrong label, some invented."""
    rng = np.random.default_rng(2)
    answers = []
    for truth in truths:
        boxes = np.concatenate([truth.boxes + rng.normal(0, 6, truth.boxes.shape), truth.boxes[:1] + 90])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = rng.integers(1, classes + 1, 5)
        labels = np.where(rng.random(5) < 0.8, np.append(truth.labels, 1), wrong)
        scores = -np.sort(-rng.random(5))
        answers.append(
            Detections(boxes.astype(np.float32), labels.astype(np.int64), scores.astype(np.float32))
        )
    return answers


def as_answers(truths: list[GroundTruth]) -> list[Detections]:
    return [
        Detections(t.boxes, t.labels, np.linspace(1, 0.5, len(t.labels), dtype=np.float32)) for t in truths
    ]


def truth(*objects: tuple[int, tuple[float, ...], bool]) -> GroundTruth:
    """Objects of an image as (label, box, crowd)."""
    return GroundTruth(
        200,
        200,
        np.array([box for _, box, _ in objects], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in objects], np.int64),
        np.array([crowd for _, _, crowd in objects], np.bool_),
    )


def found(*detections: tuple[int, float, tuple[float, ...]]) -> Detections:
    """Detections as (label, score, box)."""
    return Detections(
        np.array([box for _, _, box in detections], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in detections], np.int64),
        np.array([value for _, value, _ in detections], np.float32),
    )


def pycocotools(document: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    """The reference's evaluation, run."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = document
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


# -- the COCO numbers ----------------------------------------------------------------------------------------


def test_perfect_answers_score_one() -> None:
    truths = random_truths(5)
    numbers = evaluate(truths, as_answers(truths), LABELS)
    assert numbers["AP"] == numbers["AP50"] == numbers["AR_100"] == pytest.approx(1.0)


def test_no_answers_score_zero() -> None:
    truths = random_truths(3)
    assert evaluate(truths, [Detections.empty()] * 3, LABELS) == dict.fromkeys(NUMBERS + RECALLS, 0.0)


def test_sizes_without_objects_have_no_number() -> None:
    numbers = evaluate([truth((CAT, (0, 0, 150, 150), False))], [Detections.empty()], LABELS)
    without = {"AP_small", "AP_medium", "AR_small", "AR_medium"}
    assert {name for name, value in numbers.items() if value == -1} == without
    assert set(evaluate([truth()], [Detections.empty()], LABELS).values()) == {-1.0}


@pytest.mark.parametrize("crowds", [0.0, 0.3], ids=["plain", "with crowds"])
def test_numbers_equal_pycocotools(crowds: float) -> None:
    truths = random_truths(30, crowds=crowds)
    answers = noisy_answers(truths)
    document, rows = truth_document(truths, LABELS), result_rows(answers)
    scores = score(document, rows)
    run = pycocotools(document, rows)
    assert list(scores.numbers.values()) == pytest.approx(run.stats.tolist(), abs=1e-6)
    assert scores.numbers == evaluate(truths, answers, LABELS)
    assert 0.1 < scores.numbers["AP"] < 0.9, "neither trivial nor perfect, or the comparison says little"
    for index, one in enumerate(scores.classes):
        precision = run.eval["precision"][:, :, index, 0, -1]
        recall = run.eval["recall"][:, index, 0, -1]
        expected = {"AP": precision.mean(), "AP50": precision[0].mean(), "AR_100": recall.mean()}
        assert {name: getattr(one, name) for name in expected} == pytest.approx(expected, abs=1e-6)
        assert one.precision == pytest.approx(precision[0].tolist(), abs=1e-6)


def test_crowds_neither_gain_nor_cost() -> None:
    boxes = (CAT, (10, 10, 60, 60), False), (CAT, (100, 100, 180, 180), True)
    sure = found((CAT, 0.9, (100, 100, 140, 140)), (CAT, 0.8, (10, 10, 60, 60)))
    assert evaluate([truth(*boxes)], [sure], LABELS)["AP"] == pytest.approx(1.0)
    boxes = boxes[0], (*boxes[1][:2], False)
    assert evaluate([truth(*boxes)], [sure], LABELS)["AP"] < 0.5


def test_answers_are_rounded_as_a_service_rounds_them() -> None:
    answer = found((CAT, 0.1234567, (1.23456, 2.0, 30.00051, 40.0)))
    [row] = result_rows([answer])
    assert row == {"image_id": 1, "category_id": 1, "bbox": [1.235, 2.0, 28.766, 38.0], "score": 0.123457}
    assert result_rows([as_sent(answer)]) == [row]


# -- curves and confusion ------------------------------------------------------------------------------------

SQUARE, FAR, LONELY = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 70.0, 70.0), (150.0, 0.0, 180.0, 30.0)


def by_hand() -> tuple[list[GroundTruth], list[Detections]]:
    """Four cats, a dog and a crowd of cats in two images; what becomes of each detection is beside it."""
    truths = [
        truth((CAT, SQUARE, False), (CAT, FAR, False), (DOG, LONELY, False)),
        truth((CAT, SQUARE, False), (CAT, LONELY, False), (CAT, (100, 100, 200, 200), True)),
    ]
    answers = [
        found(
            (CAT, 0.9, SQUARE),  # right
            (CAT, 0.8, (0, 0, 10, 9)),  # the same cat again: wrong
            (CAT, 0.6, LONELY),  # the dog taken for a cat: wrong
            (DOG, 0.3, FAR),  # a cat taken for a dog
        ),
        found(
            (CAT, 0.85, (110, 110, 120, 120)),  # in the crowd: does not count
            (CAT, 0.7, (0, 0, 10, 6)),  # IoU 0.6: right
            (CAT, 0.2, (0, 100, 10, 110)),  # nothing there
        ),
    ]
    return truths, answers


def test_the_curve_of_an_example_by_hand() -> None:
    curve = trace_curve(*by_hand(), CAT)
    assert curve.objects == 4
    assert curve.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.2])
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5])
    assert curve.recall.tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 2 / 4])
    assert curve.at(0.7) == pytest.approx((2 / 3, 1 / 2))
    assert curve.at(0.95) == (0.0, 0.0)
    assert curve.best() == pytest.approx((0.7, 4 / 7))


def test_the_curve_of_a_class_never_detected_is_empty() -> None:
    curve = trace_curve([truth((DOG, SQUARE, False))], [Detections.empty()], DOG)
    assert (len(curve.scores), curve.objects, curve.at(0.5), curve.best()) == (0, 1, (0.0, 0.0), (0.0, 0.0))


def test_the_confusion_of_an_example_by_hand() -> None:
    #          none cat dog     detected as, from score 0.25 on
    expected = [
        [0, 1, 0],  # nothing there: the second square
        [1, 2, 1],  # cats: the lonely one missed, two found, one taken for a dog
        [0, 1, 0],  # the dog
    ]
    assert confuse(*by_hand(), len(LABELS), 0.25).tolist() == expected
    assert confuse(*by_hand(), len(LABELS), 0.45).tolist() == [[0, 1, 0], [2, 2, 0], [0, 1, 0]]
    assert confuse(*by_hand(), len(LABELS), 0.15)[0].tolist() == [0, 2, 0]
    assert confuse(*by_hand(), len(LABELS), 0.95).tolist() == [[0, 0, 0], [4, 0, 0], [1, 0, 0]]


def test_a_threshold_includes_its_own_score() -> None:
    truths, answers = [truth((CAT, SQUARE, False))], [found((CAT, 0.35, SQUARE))]
    assert confuse(truths, answers, 2, 0.35).tolist() == [[0, 0], [0, 1]]
    assert trace_curve(truths, answers, CAT).at(0.35) == (1.0, 1.0)


@pytest.mark.parametrize("crowds", [0.0, 0.3], ids=["plain", "with crowds"])
def test_the_curve_leads_to_the_same_ap50_as_coco(crowds: float) -> None:
    truths = random_truths(30, crowds=crowds)
    answers = [as_sent(answer) for answer in noisy_answers(truths)]
    scores = score(truth_document(truths, LABELS), result_rows(answers))
    for label in (CAT, DOG):
        curve = trace_curve(truths, answers, label)
        envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
        at = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side="left")
        interpolated = [envelope[k] if k < len(envelope) else 0.0 for k in at]
        assert np.mean(interpolated) == pytest.approx(scores.classes[label - 1].AP50, abs=1e-6)


def test_counts_leave_out_what_is_ignored() -> None:
    truths, answers = by_hand()
    truths[0] = truth((CAT, SQUARE, False), (CAT, (0, 0, 32, 32), False), (DOG, (0, 0, 96, 96), False))
    counts = assess([*truths, truth()], [*answers, Detections.empty()], LABELS, 0.5).counts
    assert (counts.images, counts.empty_images, counts.objects, counts.ignored) == (3, 1, 5, 1)
    assert counts.objects_by_size == {"small": 3, "medium": 1, "large": 1}
    assert counts.detections == 7


# -- labels --------------------------------------------------------------------------------------------------


def test_classes_are_matched_by_name() -> None:
    match = match_labels(("background", "dog", "Cat", "eel"), ("background", "CAT", "N/A", "dog", "owl"))
    assert match.to_data.tolist() == [0, 2, 0, 1, 0]
    assert (match.missing, match.extra, match.known) == (("eel",), ("owl",), {1, 3})
    answer = found((1, 0.9, SQUARE), (4, 0.8, FAR), (3, 0.7, LONELY))
    translated = match.translate(answer)
    assert (translated.labels.tolist(), translated.boxes.tolist()) == ([2, 1], [list(SQUARE), list(LONELY)])
    assert len(match.translate(Detections.empty())) == 0


def test_the_exact_name_comes_first() -> None:
    match = match_labels(("background", "cat", "Cat"), ("background", "Cat", "CAT"))
    assert match.to_data.tolist() == [0, 2, 0]
    assert match.missing == ("cat",)
    assert match_labels(("background", "N/A"), ("background", "N/A")).missing == ("N/A",)


# -- asking --------------------------------------------------------------------------------------------------


def test_no_more_is_begun_than_can_be_used_soon() -> None:
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


def test_a_file_with_a_fault_is_answered_by_it(tmp_path: Path) -> None:
    def detect(file: Path) -> Detections:
        if file.name == "bad":
            raise DetectionFailed("no image")
        file.read_bytes()
        return found((CAT, 0.5, SQUARE))

    (tmp_path / "good").write_bytes(b"")
    answers = list(detect_each(detect, [tmp_path / name for name in ("bad", "good", "none")]))
    assert [(a.index, len(a.detections)) for a in answers] == [(0, 0), (1, 1), (2, 0)]
    assert [a.fault for a in answers] == ["no image", None, "No such file or directory"]


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
    for index, answer in single.items():
        np.testing.assert_allclose(batched[index].detections.boxes, answer.detections.boxes, atol=0.01)
        np.testing.assert_array_equal(batched[index].detections.labels, answer.detections.labels)
        np.testing.assert_array_equal(answer.detections.boxes, as_sent(answer.detections).boxes)
    assert list(single) == list(range(7)), "without batches nothing waits"


# -- pictures ------------------------------------------------------------------------------------------------


def assessed(classes: int, images: int = 12) -> Assessment:
    names = tuple(["background", "_under $a$", "owl {x}"] + [f"class {k}" for k in range(2, classes)])
    truths = random_truths(images, classes)
    return assess(truths, noisy_answers(truths, classes), names[: classes + 1], 0.5)


@pytest.mark.parametrize("classes", [1, 3, 40])
def test_pictures_are_pngs_with_something_on_them(tmp_path: Path, classes: int) -> None:
    paths = draw_pictures(assessed(classes), tmp_path / "deep" / "plots", "cats $1 _ on [data]")
    assert [path.name for path in paths] == ["precision_recall.png", "confusion_matrix.png"]
    for path in paths:
        with pillow.open(path) as image:
            assert image.format == "PNG"
            assert 600 <= min(image.size) <= max(image.size) <= 3000
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert (pixels == 255).all(axis=1).mean() < 0.99, "more than a title"
        assert len(np.unique(pixels, axis=0)) > 50


def test_pictures_of_nothing_are_drawn_too(tmp_path: Path) -> None:
    nothing = assess([truth()], [Detections.empty()], LABELS, 0.5)
    missed = assess([truth((CAT, SQUARE, False))], [Detections.empty()], LABELS, 0.5)
    for number, assessment in enumerate((nothing, missed)):
        for path in draw_pictures(assessment, tmp_path / str(number), "nothing"):
            with pillow.open(path) as image:
                assert min(image.size) >= 600


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_pictures(assessed(3), tmp_path, "cats")
    assert dict(matplotlib.rcParams) == before
