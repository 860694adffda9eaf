"""Padded rows, as on a GPU, give the detections of trimmed ones, and run again where they are not certain."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, ones

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.protocol import Engine
from models.images.decoder import Image
from models.options import Options
from models.pipeline import padded
from models.pipeline.padded import Padded
from models.pipeline.rows import Answers
from models.pipeline.tail import Run, Tail
from models.pipeline.trimmed import TrimmedAnswers
from models.shapes.scenes import draw_scene
from models.zoo.loading import load_network
from tests.support.data.networks import random_card, random_network

pytestmark = pytest.mark.network

SPREAD = 10.0  # of class scores: wider still, rounding in the features would show in them
REQUESTS = [
    Options(0.05, 0.5, 100),
    Options(0.2, 0.3, 7),
    Options(0.05, 0.6, 1000, class_agnostic=True),
    Options(0.05, 0.9, 50, classes=frozenset({2, 3})),
    Options(0.05, 0.5, 20, min_area=900.0),
]


class CountingTail(Tail):
    """A padded tail that counts the batches that ran again."""

    again = 0

    def exact(self, run: Run) -> Answers:
        self.again += 1
        return super().exact(run)


@pytest.fixture(scope="module")
def detectors() -> tuple[Detector, Detector]:
    """One network behind trimmed and behind padded rows."""
    network, card = random_network(SPREAD), random_card()
    engine = build_engine(network, EngineChoice("cpu", "torch"))
    trimmed, padded = (Detector(network, card, engine) for _ in range(2))
    padded._runner._tail = CountingTail(network, engine, Padded())
    return trimmed, padded


def scenes(count: int) -> list[Image]:
    return [Image(np.resize(draw_scene(5, k).pixels, (180, 240, 3)), "PNG") for k in range(count)]


def both(
    detectors: tuple[Detector, Detector], options: Sequence[Options]
) -> tuple[list[Detections], list[Detections], int]:
    """The detections of trimmed and padded rows, and how often the latter ran again."""
    trimmed, padded = detectors
    images = scenes(len(options))
    jobs = [Job(trimmed.prepare(image), each) for image, each in zip(images, options, strict=True)]
    padded._runner._tail.again = 0
    return trimmed.detect(jobs), padded.detect(jobs), padded._runner._tail.again


def assert_equal(ours: Sequence[Detections], expected: Sequence[Detections]) -> None:
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_padded_rows_answer_as_trimmed_ones(detectors: tuple[Detector, Detector]) -> None:
    expected, ours, _ = both(detectors, REQUESTS)
    assert min(map(len, expected)) > 0
    assert sum(map(len, expected)) > 50
    assert_equal(ours, expected)


def test_a_trained_network_does_not_run_again() -> None:
    loaded = load_network("shapes", None, Path())
    engine = build_engine(loaded.network, EngineChoice("cpu", "torch"))
    trimmed, padded = (Detector(loaded.network, loaded.card, engine) for _ in range(2))
    padded._runner._tail = CountingTail(loaded.network, engine, Padded())
    expected, ours, again = both((trimmed, padded), [Options(0.5, 0.5, 100), Options(0.05, 0.5, 100)])
    assert again == 0
    assert sum(map(len, expected)) > 10
    assert_equal(ours, expected)


@pytest.mark.parametrize("options", [Options(0.05, 0.5, 1000), Options(0.05, 0.5, 5, min_area=4000.0)])
def test_candidates_that_were_left_out_run_again(
    detectors: tuple[Detector, Detector], monkeypatch: pytest.MonkeyPatch, options: Options
) -> None:
    monkeypatch.setattr(padded, "CANDIDATES", 16)
    expected, ours, again = both(detectors, [options])
    assert again == 1
    assert_equal(ours, expected)


@pytest.mark.parametrize("iterations", ["PROPOSAL_ITERATIONS", "DETECTION_ITERATIONS"])
def test_nms_that_is_not_settled_runs_again(
    detectors: tuple[Detector, Detector], monkeypatch: pytest.MonkeyPatch, iterations: str
) -> None:
    monkeypatch.setattr(padded, iterations, 1)
    expected, ours, again = both(detectors, REQUESTS)
    assert again == 1
    assert_equal(ours, expected)


class RecordingEngine:
    """An engine that notes how many rows its head computes."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.rows = engine, set[int]()
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress, self.dense, self.recording = engine.suppress, engine.dense, None

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        self.rows.add(len(pooled))
        return self._engine.head(pooled)


def test_the_heads_rows_depend_on_the_batch_size_alone() -> None:
    """A GPU plans its convolutions for each number of rows anew."""
    network, card = random_network(SPREAD), random_card()
    engine = RecordingEngine(build_engine(network, EngineChoice("cpu", "torch")))
    detector = Detector(network, card, engine)
    detector._runner._tail = CountingTail(network, engine, Padded())
    for image in scenes(4):
        for batch in (1, 3):
            jobs = [Job(detector.prepare(image), Options(0.9, 0.5, 1))] * batch
            detector.launch(jobs)
    post_nms = detector.proposal_config.post_nms
    assert engine.rows == {post_nms, 3 * post_nms}


def test_trimmed_answers_are_copied_where_the_batch_was_launched() -> None:
    """Another thread reads them, and its stream does not wait for the one that computes."""
    images = [ones(3, 6), ones(2, 6)]
    fetched = TrimmedAnswers(images, ones(2)).fetch()
    for rows in images:
        rows.fill_(0)
    assert [rows.sum() for rows in fetched.read()] == [18, 12]
