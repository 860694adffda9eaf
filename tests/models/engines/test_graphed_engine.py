"""Recorded runs: which shapes are replayed, that answers stay the same, and what happens when it fails."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.engines.graphed_engine import GraphedEngine, RunDense
from models.engines.protocol import DenseOutput, Engine
from models.images.decoder import Image
from models.shapes.scenes import draw_scene
from tests.support.data.networks import canvases, dense, detect, random_card, random_network

pytestmark = pytest.mark.network

KEY = (64, 96)


class Tape:
    """Replays on the CPU as a CUDA graph does: from one place of memory into another, the same each time."""

    def __init__(self, wrong: float = 0.0, error: Exception | None = None) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.replayed: list[tuple[int, ...]] = []
        self._wrong, self._error = wrong, error

    def __call__(self, run: RunDense, example: Tensor) -> RunDense:
        self.calls.append(tuple(example.shape))
        if self._error:
            raise self._error
        place = flat(run(example.clone()))
        levels = len(place) // 3

        def replay(pixels: Tensor) -> DenseOutput:
            self.replayed.append(tuple(pixels.shape))
            for kept, new in zip(place, flat(run(pixels)), strict=True):
                kept.copy_(new + self._wrong)
            return DenseOutput(place[:levels], place[levels : 2 * levels], place[2 * levels :])

        return replay


def flat(output: DenseOutput) -> list[Tensor]:
    return [*output.features, *output.objectness, *output.deltas]


def eager_engine() -> Engine:
    return build_engine(random_network(), EngineChoice(device="cpu", engine="torch"))


def graphed(tape: Tape, max_graphs: int = 32) -> GraphedEngine:
    return GraphedEngine(eager_engine(), tape, max_graphs)


def picture(index: int) -> Image:
    return Image(np.ascontiguousarray(np.resize(draw_scene(5, index).pixels, (180, 240, 3))), "PNG")


def test_only_prepared_shapes_are_replayed() -> None:
    tape = Tape()
    engine = graphed(tape)
    engine.get_ready(2, KEY)
    tape.replayed.clear()
    for shape in ((2, 3, *KEY), (1, 3, *KEY), (2, 3, *KEY[::-1])):
        dense(engine, canvases(shape[0], *shape[2:]))
    assert engine.recorded == [(2, 3, *KEY)]
    assert tape.replayed == [(2, 3, *KEY)]


def test_a_replay_answers_as_the_eager_run_does() -> None:
    engine, eager = graphed(Tape()), eager_engine()
    engine.get_ready(2, KEY)
    for seed in (1, 2):
        ours, theirs = (dense(each, canvases(2, *KEY, seed)) for each in (engine, eager))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_its_properties_are_those_of_its_engine() -> None:
    engine = graphed(Tape())
    assert (engine.name, engine.device, engine.precision) == ("torch", "cpu", "fp32")
    with torch.inference_mode():
        logits, deltas = engine.head(torch.zeros(3, 96, 7, 7))
    assert (len(logits), len(deltas)) == (3, 3)


def test_a_shape_is_recorded_once_and_no_more_than_the_most() -> None:
    tape = Tape()
    engine = graphed(tape, max_graphs=2)
    for batch in (1, 1, 2, 3, 4):
        engine.get_ready(batch, KEY)
    assert tape.calls == [(1, 3, *KEY), (2, 3, *KEY)]
    assert engine.recorded == tape.calls


@pytest.mark.parametrize(
    ("tape", "reason"),
    [
        (Tape(error=RuntimeError("operation not permitted when stream is capturing\nmore")), "capturing"),
        (Tape(error=torch.OutOfMemoryError("CUDA out of memory")), "out of memory"),
        (Tape(wrong=1000.0), "differs from"),
        (Tape(wrong=float("nan")), "differs from"),
    ],
    ids=["capture", "memory", "wrong", "nan"],
)
def test_a_failed_recording_is_one_warning_and_later_runs_are_eager(
    tape: Tape, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = graphed(tape)
    with caplog.at_level(logging.WARNING):
        for batch in (1, 2, 3):
            engine.get_ready(batch, KEY)
    assert len(tape.calls) == 1
    assert engine.recorded == []
    [record] = caplog.records
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    for one, other in zip(
        dense(engine, canvases(1, *KEY)), dense(eager_engine(), canvases(1, *KEY)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_graphs_recorded_before_a_failure_stay() -> None:
    tape = Tape()
    engine = graphed(tape)
    engine.get_ready(1, KEY)
    tape._error = RuntimeError("CUDA error")
    engine.get_ready(2, KEY)
    engine.get_ready(1, KEY)
    assert engine.recorded == [(1, 3, *KEY)]


def test_warm_up_records_landscape_and_portrait_for_every_batch_size() -> None:
    engine = graphed(Tape())
    detector = Detector(random_network(), random_card(), engine)
    useful = detector.warm_up(3)
    landscape = {(size, 3, 128, 192) for size in (1, 2)}  # 2 is tried unless a busy machine makes one slow
    portrait = {(size, 3, 192, 128) for size in range(1, useful + 1)}
    recorded = set(engine.recorded)
    assert {(1, 3, 128, 192), *portrait} <= recorded <= landscape | portrait


def test_answers_outlive_the_next_replay() -> None:
    """A graph writes its next answer over the last one; the detector must be done with that."""
    network = random_network()
    tape = Tape()
    engine = GraphedEngine(build_engine(network, EngineChoice("cpu", "torch")), tape)
    ours, theirs = Detector(network, random_card(), engine), Detector(network, random_card(), eager_engine())
    batches = [[picture(0), picture(1)], [picture(2), picture(3)]]
    key = ours.prepare(picture(0)).key
    engine.get_ready(2, key)
    replays = len(tape.replayed)
    found = [answer for batch in batches for answer in detect(ours, *batch)]
    expected = [answer for batch in batches for answer in detect(theirs, *batch)]
    assert len(tape.replayed) == replays + 2
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.scores, other.scores)
