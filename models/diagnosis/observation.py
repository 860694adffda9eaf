"""What the checks look at: each image once through the network, and nothing thrown away."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import box_iou

from models.detections import Detections
from models.detector import Detector, Job, Regions
from models.evaluation.answers import FLOOR, ahead, attempt
from models.evaluation.candidates import KEEP_ALL, MOST_PROPOSALS, suppress
from models.evaluation.coco import GroundTruth, as_sent
from models.evaluation.labels import LabelMatch
from models.evaluation.local import READERS
from models.images.decoder import Limits, decode
from models.options import Options

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observation:
    """One image: what is in it, and what the network made of it; boxes (N, 4) xyxy image px.

    candidates: what NMS chooses from, scores from the floor on, in the data's label ids. proposals: best
    first. scale: canvas px an image px, (x, y). anchor_ious: of each of `objects`, with its best anchor.
    """

    truth: GroundTruth
    candidates: Detections
    proposals: Boxes
    scale: tuple[float, float]
    anchor_ious: Floats

    @property
    def objects(self) -> Boxes:
        """The boxes that are to be found: all but the ignored ones."""
        return self.truth.boxes[~self.truth.ignored]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The labels of `objects`."""
        return self.truth.labels[~self.truth.ignored]

    def answer(self, nms_threshold: float, score_threshold: float = 0.0) -> Detections:
        """The detections that NMS with that threshold leaves, from a score on."""
        found = suppress(self.candidates, nms_threshold)
        kept = found.scores >= np.float32(score_threshold)
        return Detections(found.boxes[kept], found.labels[kept], found.scores[kept])


@dataclass(frozen=True, eq=False)
class Subject:
    """Who is diagnosed: the detector, how its classes are those of the data, and how images are read."""

    detector: Detector
    match: LabelMatch
    limits: Limits


def observe(
    subject: Subject, truths: Sequence[GroundTruth], files: Sequence[Path], advance: Callable[[], None]
) -> Iterator[Observation]:
    """One observation an image whose file can be read; `advance` is called after each.

    MemoryError: the device has no room for one image.
    """
    detector = subject.detector
    classes = subject.match.known if subject.match.extra else None
    everything = MOST_PROPOSALS * len(detector.card.labels)
    options = Options(FLOOR, KEEP_ALL, everything, classes)

    def prepare(file: Path) -> Job:
        image = decode(file.read_bytes(), subject.limits, detector.card.canvas_limits())
        return Job(detector.prepare(image), options)

    jobs = ahead(lambda file: attempt(prepare, file), files, min(READERS, os.cpu_count() or 1))
    for truth, job in zip(truths, jobs, strict=True):
        if not isinstance(job, str):
            yield _look(subject, truth, job)
        advance()


def _look(subject: Subject, truth: GroundTruth, job: Job) -> Observation:
    detector, canvas = subject.detector, job.canvas
    [found] = detector.detect([job])
    regions = detector.regions(job, replace(detector.proposal_config, post_nms=MOST_PROPOSALS))
    (height, width), (new_height, new_width) = canvas.image_size, canvas.content
    scale = new_width / width, new_height / height
    return Observation(
        truth=truth,
        candidates=subject.match.translate(as_sent(found)),
        proposals=regions.proposals.cpu().numpy(),
        scale=scale,
        anchor_ious=_anchor_ious(truth.boxes[~truth.ignored], scale, regions),
    )


def _anchor_ious(objects: Boxes, scale: tuple[float, float], regions: Regions) -> Floats:
    """IoU of each object (N,) with the anchor, of all places and levels, that lies best on it."""
    device = regions.proposals.device
    boxes = torch.from_numpy(objects * np.array([*scale, *scale], np.float32)).to(device)
    best = [box_iou(boxes, anchors).amax(dim=1) for anchors in regions.anchors if len(boxes)]
    ious: Floats = torch.stack(best).amax(dim=0).double().cpu().numpy() if best else np.zeros(0)
    return ious
