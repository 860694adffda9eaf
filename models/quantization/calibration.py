"""Calibration data for NNCF: canvases of real images and pooled features of real proposals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.detector import Detector, Job
from models.engines.protocol import DenseOutput, Engine
from models.evaluation.local import read_job
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS, result_or_fault
from models.images.decoder import Limits
from models.options import Options

Input = npt.NDArray[np.float32]
ROIS = 32  # pooled proposals kept per image, evenly from best to worst: all would fill the memory
LIMITS = Limits(max_pixels=100_000_000)  # the images are the user's own


class RecordingEngine:
    """An engine that records some of the pooled features that its head gets."""

    recording = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress
        self.pooled: list[Input] = []

    def dense(self, pixels: Tensor) -> DenseOutput:
        """As the engine's."""
        return self._engine.dense(pixels)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """As the engine's."""
        if len(pooled):
            chosen = pooled[:: -(-len(pooled) // ROIS)].permute(0, 2, 3, 1)
            self.pooled.append(np.array(chosen.numpy()))
        return self._engine.head(pooled)


@dataclass(frozen=True, eq=False)
class Canvases:
    """The images' canvases (1, H, W, 3), prepared again on each iteration: all would fill the memory."""

    detector: Detector
    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Input]:
        canvases = (self.job(file).canvas for file in self.files)
        return (canvas.make(torch.clone)[None].numpy() for canvas in canvases)

    def job(self, file: Path) -> Job:
        """The image as a job; raises ImageError, OSError."""
        options = Options(FLOOR, self.detector.card.nms_threshold, MOST_DETECTIONS)
        return read_job(self.detector, file, options, LIMITS)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The inputs of the dense part and of the head."""

    canvases: Canvases
    pooled: list[Input]


def choose_evenly(files: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the files, evenly spaced."""
    step = max(1.0, len(files) / count)
    return [files[int(k * step)] for k in range(min(count, len(files)))]


def calibrate(detector: Detector, recorder: RecordingEngine, files: Sequence[Path]) -> Calibration:
    """Run the detector with `recorder` as its engine on the images; unreadable ones are skipped."""
    canvases = Canvases(detector, files)
    readable = []
    for file in files:
        job = result_or_fault(canvases.job, file)
        if not isinstance(job, str):
            detector.detect([job])
            readable.append(file)
    return Calibration(Canvases(detector, readable), recorder.pooled)
