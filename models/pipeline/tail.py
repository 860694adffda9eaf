"""What follows the dense part: proposals, RoIAlign, head and postprocess."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torchvision.models.detection import FasterRCNN

from models.engines.protocol import DenseOutput, Engine
from models.ops.kernels import kernels_for
from models.ops.roi_align import roi_align_config
from models.ops.scratch import ScratchBuffer
from models.pipeline.padded import Padded
from models.pipeline.postprocess import HeadOutput, select
from models.pipeline.proposals import Proposer, proposal_config
from models.pipeline.request_table import RequestTable
from models.pipeline.rows import Answers, Shapes
from models.pipeline.stage_timer import TimeStage
from models.pipeline.trimmed import Trimmed


@dataclass(frozen=True, eq=False)
class Run:
    """A batch after the dense part: its output, the canvas's (height, width), and the requests."""

    dense: DenseOutput
    canvas: tuple[int, int]
    table: RequestTable


class Tail:
    """Turns the dense part's output into detections: trimmed rows on a CPU, padded ones on another device."""

    def __init__(self, network: FasterRCNN, engine: Engine, shapes: Shapes | None = None) -> None:
        self._engine = engine
        self._trimmed = Trimmed(engine.suppress)
        device = torch.device(engine.device)
        on_host = device.type == "cpu"
        self.shapes: Shapes = shapes or (self._trimmed if on_host else Padded(kernels_for(device)))
        self._propose = Proposer(proposal_config(network))
        self._roi_align = roi_align_config(network)
        self._scratch = ScratchBuffer()
        self._coder = network.roi_heads.box_coder

    @property
    def is_static(self) -> bool:
        """Whether no shape depends on a value: a CUDA graph can hold it."""
        return isinstance(self.shapes, Padded)

    def __call__(self, run: Run, stages: TimeStage) -> Answers:
        """The detections on the device; padded ones do not wait for it, and may not be certain."""
        return self._run(run, stages, self.shapes)

    def exact(self, run: Run) -> Answers:
        """The detections with trimmed rows, for a batch whose padded ones are not certain."""
        return self._run(run, untimed, self._trimmed)

    def _run(self, run: Run, stages: TimeStage, shapes: Shapes) -> Answers:
        dense, canvas, table = run.dense, run.canvas, run.table
        with stages("proposals"):
            proposals = self._propose.propose(dense, canvas, table.limits, shapes)
        with stages("roi_align"):
            pooled = shapes.pool(dense.features, proposals, canvas, self._roi_align, self._scratch)
        with stages("head"):
            logits, deltas = self._engine.head(pooled)
        with stages("postprocess"):
            return select(HeadOutput(proposals, logits, deltas), table, self._coder, shapes)


def untimed(stage: str) -> AbstractContextManager[None]:
    """A stage whose time nobody asks for."""
    return nullcontext()
