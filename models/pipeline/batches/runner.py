"""Runs a batch on its device: dense part and tail, replayed where that was recorded.

With padded rows all of a batch's computation has fixed shapes, and one CUDA graph holds it. With trimmed rows
a graph holds the dense part alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from models.engines.protocol import DenseOutput, Engine, Recordable, input_type
from models.options import Options
from models.pipeline.batches.recorded_runs import RecordedRuns, padded_batch
from models.pipeline.batches.shared_buffers import SharedBuffers
from models.pipeline.canvas import Canvas, StagedCanvas
from models.pipeline.device_upload import DeviceUpload
from models.pipeline.padded import PaddedAnswers
from models.pipeline.request_table import RequestTable, request_table
from models.pipeline.rows import Answers
from models.pipeline.stage_timer import TimeStage
from models.pipeline.tail import Run, Tail, untimed

Stack = Callable[[Tensor | None], Tensor]

# Every proposal has candidates then, and each option its own operations.
RECORDED = Options(0.0, 0.5, 100, class_agnostic=True)


@dataclass(frozen=True, eq=False)
class Batch:
    """Requests of images on one canvas (height, width).

    `stack` gives the canvases (B, H, W, 3) on the device, in the memory that it is given, if any.
    """

    stack: Stack
    canvas: tuple[int, int]
    table: RequestTable


class BatchRunner:
    """Runs batches of a detector, one at a time, from one thread."""

    def __init__(self, engine: Engine, tail: Tail, upload: DeviceUpload, classes: int) -> None:
        self._engine, self._tail, self._upload, self._classes = engine, tail, upload, classes
        self._buffers = SharedBuffers(engine.device, input_type(engine.precision))
        self.recorded: RecordedRuns[Any] | None = None
        if engine.recording is not None:
            self.recorded = RecordedRuns(self._compute, engine.recording, self._buffers)

    @property
    def graph_bytes(self) -> int:
        """Device memory that the recorded runs took."""
        return self.recorded.nbytes if self.recorded else 0

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Batch size, height and width of each recorded run."""
        return self.recorded.shapes if self.recorded else []

    def batch(self, canvases: Sequence[Canvas | StagedCanvas], options: Sequence[Options]) -> Batch:
        """The batch of these canvases, which share a key, and of their requests."""
        contents = [canvas.content for canvas in canvases]
        table = request_table(contents, options, self._classes, self._upload.send)
        return Batch(partial(self._upload.stack, canvases), canvases[0].key, table)

    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Record batches of that size on a canvas (height, width), where the engine's device can."""
        if self.recorded is not None:
            size = padded_batch(batch)
            with self._upload.computing():
                table = request_table([canvas] * size, [RECORDED] * size, self._classes, self._upload.send)
                self.recorded.get_ready(canvas, table.rows)

    def __call__(self, batch: Batch, stages: TimeStage) -> Answers:
        """The detections on the device. On a GPU nothing in here waits for it."""
        requests = batch.table.rows
        recorded = self.recorded.find(len(requests), batch.canvas) if self.recorded else None
        if recorded is None:
            with stages("dense"):
                dense = self._dense(batch.stack(None))
            return self._tail(Run(dense, batch.canvas, batch.table), stages)
        with stages("graph" if isinstance(recorded.result, PaddedAnswers) else "dense"):
            batch.stack(recorded.canvases[: len(requests)])
            recorded.requests[: len(requests)].copy_(requests)
            recorded.replay()
        if isinstance(recorded.result, PaddedAnswers):
            return recorded.result.of(batch.table.options)
        dense = _first(recorded.result, len(requests))
        return self._tail(Run(dense, batch.canvas, batch.table), stages)

    def exact(self, batch: Batch) -> Answers:
        """The detections with trimmed rows, for a batch whose padded ones are not certain."""
        return self._tail.exact(Run(self._dense(batch.stack(None)), batch.canvas, batch.table))

    def _dense(self, canvases: Tensor) -> DenseOutput:
        return self._engine.dense(canvases.permute(0, 3, 1, 2))

    def _compute(self, canvases: Tensor, requests: Tensor) -> Recordable:
        """What is recorded: the detections with padded rows, or the dense part's output."""
        dense = self._dense(canvases)
        if not self._tail.is_static:
            return self._buffers.store(dense)
        table = RequestTable(requests, [RECORDED] * len(requests))
        canvas = canvases.shape[1], canvases.shape[2]
        answers = self._tail(Run(dense, canvas, table), untimed)
        if not isinstance(answers, PaddedAnswers):
            raise TypeError("a static tail has padded rows")
        return answers


def _first(output: DenseOutput, images: int) -> DenseOutput:
    parts: Sequence[list[Tensor]] = output.features, output.objectness, output.deltas
    return DenseOutput(*([level[:images] for level in part] for part in parts))
