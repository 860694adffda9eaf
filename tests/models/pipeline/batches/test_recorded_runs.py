"""Recorded runs: which shapes are replayed, that answers stay the same, and what happens when it fails."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from models.detector import Detector, Job
from models.engines.cuda_graphs import ReadTensors
from models.engines.protocol import R, Recording
from models.engines.torch_engine import TorchEngine
from models.images.decoder import Image
from models.options import Options
from models.pipeline.batches.recorded_runs import RESERVE, RecordedRuns, fits
from models.pipeline.batches.runner import BatchRunner
from models.pipeline.batches.shared_buffers import SharedBuffers
from models.pipeline.padded import Padded
from models.pipeline.tail import Tail
from models.pipeline.trimmed import Trimmed
from models.shapes.scenes import draw_scene
from tests.support.cuda import HostRecorder
from tests.support.data.networks import detect, random_card, random_network

KEY = (8, 12)


@dataclass(frozen=True, eq=False)
class Sums:
    """The sum of each canvas, times its request's first number."""

    tensors: list[Tensor]

    @property
    def compared(self) -> list[Tensor]:
        return self.tensors


def sums(canvases: Tensor, requests: Tensor) -> Sums:
    return Sums([canvases.sum((1, 2, 3)) * requests[:, 0]])


@dataclass
class Tape(HostRecorder):
    """A recorder that counts, and may fail."""

    wrong: float = 0.0
    error: Exception | None = None
    calls: int = 0
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __call__(self, run: Callable[[], R]) -> tuple[Callable[[], object], R]:
        self.calls += 1
        if self.error:
            raise self.error
        replay, result = super().__call__(run)
        self.batches.append(len(result.tensors[0]))

        def wrong_replay() -> None:
            replay()
            for tensor in result.tensors:
                tensor.add_(self.wrong)

        return wrong_replay, result


def runs_of(tape: Tape, **limits: object) -> RecordedRuns[Sums]:
    return RecordedRuns(sums, Recording(tape, **limits), SharedBuffers("cpu", torch.float32))


def record(runs: RecordedRuns[Sums], *batches: int, canvas: tuple[int, int] = KEY) -> None:
    for batch in batches:
        runs.get_ready(canvas, torch.ones(batch, 3))


def test_a_batch_uses_the_next_larger_run_of_its_canvas() -> None:
    runs = runs_of(Tape())
    record(runs, 1, 4)
    assert runs.shapes == [(1, *KEY), (4, *KEY)]
    assert [len(found.requests) if (found := runs.find(batch, KEY)) else None for batch in range(1, 6)] == [
        *(1, 4, 4, 4),
        None,
    ]
    assert runs.find(1, KEY[::-1]) is None


@torch.inference_mode()
def test_a_replay_computes_what_is_in_its_memory() -> None:
    runs = runs_of(Tape())
    record(runs, 1, 2)
    for batch in (2, 1, 2):
        run = runs.find(batch, KEY)
        assert run is not None
        run.canvases.copy_(canvases := torch.randn(batch, *KEY, 3))
        run.requests.copy_(requests := torch.randn(batch, 3))
        run.replay()
        torch.testing.assert_close(run.result.tensors, sums(canvases, requests).tensors)


def test_runs_share_the_memory_of_the_largest() -> None:
    runs = runs_of(Tape())
    record(runs, 4)
    record(runs, 4, 2, 1, canvas=KEY[::-1])
    places = {
        found.canvases.data_ptr()
        for batch, *canvas in runs.shapes
        if (found := runs.find(batch, tuple(canvas)))
    }
    assert len(places) == 1


def test_they_leave_a_reserve_of_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    """Each image takes 10 of 100; three images leave too little for four more."""
    tape = Tape()
    runs = runs_of(tape, memory=lambda: (100 - 10 * sum(tape.batches), 100))
    with caplog.at_level(logging.WARNING):
        record(runs, 1, 2, 4, 8)
    assert [shape[0] for shape in runs.shapes] == [1, 2]
    assert runs.nbytes == 30
    [warning] = caplog.records
    assert "MiB are free" in warning.getMessage()


@pytest.mark.parametrize(
    ("needed", "left", "fit"), [(0, 35, True), (1, 35, False), (10, 44, False), (9, 44, True)]
)
def test_the_reserve_is_a_share_of_what_the_process_may_use(needed: int, left: int, fit: bool) -> None:
    assert fits(needed, left, 100) is fit
    assert RESERVE == 0.35


def test_a_shape_is_recorded_once_and_no_more_than_the_most() -> None:
    tape = Tape()
    runs = runs_of(tape, max_graphs=2)
    record(runs, 1, 1, 2, 4, 8)
    assert tape.batches == [1, 2]


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
def test_a_failed_recording_is_one_warning(tape: Tape, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    runs = runs_of(tape)
    with caplog.at_level(logging.WARNING):
        record(runs, 1, 2, 3)
    assert (tape.calls, runs.shapes) == (1, [])
    [warning] = caplog.records
    assert reason in warning.getMessage()
    assert "\n" not in warning.getMessage()


def test_runs_recorded_before_a_failure_stay() -> None:
    tape = Tape()
    runs = runs_of(tape)
    record(runs, 1)
    tape.error = RuntimeError("CUDA error")
    record(runs, 2, 1)
    assert runs.shapes == [(1, *KEY)]


def test_what_a_run_reads_and_has_not_made_is_held() -> None:
    """A cache may drop a constant, whose address a graph goes on reading."""
    constant, canvas, other = torch.ones(3), torch.ones(3), torch.ones(3)
    with ReadTensors() as inputs:
        made = canvas + constant[1:2]
        (made * other).relu_().sum()
    held = {tensor.untyped_storage().data_ptr() for tensor in inputs.tensors.values()}
    assert held == {tensor.data_ptr() for tensor in (constant, canvas, other)}


def picture(index: int) -> Image:
    return Image(np.ascontiguousarray(np.resize(draw_scene(5, index).pixels, (180, 240, 3))), "PNG")


def detectors(padded: bool) -> tuple[Detector, Detector, HostRecorder]:
    """One that replays, and one that runs eagerly."""
    network, card, recorder = random_network(10.0), random_card(), HostRecorder()
    engine = TorchEngine(network, torch.device("cpu"), "fp32", lambda: Recording(recorder))
    ours, theirs = (Detector(network, card, engine) for _ in range(2))
    shapes = Padded() if padded else Trimmed()
    ours._runner = BatchRunner(engine, Tail(network, engine, shapes), ours._upload, len(card.labels))
    return ours, theirs, recorder


@pytest.mark.network
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "trimmed"])
def test_a_graph_of_the_whole_batch_or_its_dense_part_answers_as_the_eager_run(padded: bool) -> None:
    ours, theirs, recorder = detectors(padded)
    key = ours.prepare(picture(0)).key
    ours.get_ready(3, key)
    recorder.replays = 0
    options = [Options(0.05, 0.5, 100), Options(0.05, 0.6, 50, class_agnostic=True), Options(0.3, 0.5, 9)]
    jobs = [Job(ours.prepare(picture(k)), options[k % 3]) for k in range(6)]
    launched = [ours.launch(some) for some in (jobs[:3], jobs[3:5], jobs[5:])]
    found = (
        [answer for batch in launched for answer in ours.read(batch)]
        if padded
        else [answer for some in (jobs[:3], jobs[3:5], jobs[5:]) for answer in ours.detect(some)]
    )
    expected = [theirs.detect([job])[0] for job in jobs]
    assert recorder.replays >= 3
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


@pytest.mark.network
def test_only_the_whole_batch_is_a_stage_of_its_own() -> None:
    for padded, stages in (
        (True, ["graph"]),
        (False, ["dense", "proposals", "roi_align", "head", "postprocess"]),
    ):
        ours, _, _ = detectors(padded)
        ours.get_ready(1, ours.prepare(picture(0)).key)
        seconds: dict[str, float] = {}
        ours.detect([Job(ours.prepare(picture(0)), Options(0.05, 0.5, 100))], seconds.__setitem__)
        assert list(seconds) == stages


@pytest.mark.network
def test_warm_up_records_landscape_and_portrait_for_every_batch_size() -> None:
    ours, _, _ = detectors(padded=True)
    useful = ours.warm_up(3)
    landscape = {(size, 128, 192) for size in (1, 2)}  # 2 is tried unless a busy machine makes one slow
    portrait = {(size, 192, 128) for size in (1, 2) if size <= useful}
    assert ours._runner.recorded is not None
    recorded = set(ours._runner.recorded.shapes)
    assert {(1, 128, 192), *portrait} <= recorded <= landscape | portrait
    assert detect(ours, picture(0))
