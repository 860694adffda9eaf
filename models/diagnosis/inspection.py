"""The data of all checks: each image once through the network, with proposals and candidates before NMS."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import box_iou

from models.detections import Detections
from models.detector import Detector, Job, Regions
from models.evaluation.candidates import KEEP_ALL, MAX_PROPOSALS, suppress
from models.evaluation.coco import GroundTruth, as_sent
from models.evaluation.labels import LabelMatch
from models.evaluation.local import read_jobs
from models.evaluation.predictions import FLOOR
from models.images.decoder import Limits
from models.options import Options

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InspectedImage:
    """The objects of one image and the outputs of the network; boxes (N, 4) xyxy image px.

    candidates: detections before NMS from score FLOOR on, with the data's label ids. proposals: best first.
    scale: canvas px per image px, (x, y). anchor_ious: of each of `objects`, with its best anchor.
    """

    truth: GroundTruth
    candidates: Detections
    proposals: Boxes
    scale: tuple[float, float]
    anchor_ious: Floats

    @property
    def objects(self) -> Boxes:
        """The boxes of the objects to detect: all but the ignored ones."""
        return self.truth.boxes[~self.truth.ignored]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The labels of `objects`."""
        return self.truth.labels[~self.truth.ignored]

    def detections(self, nms_threshold: float, score_threshold: float = 0.0) -> Detections:
        """The detections after NMS with that threshold, from `score_threshold` on."""
        return from_score(suppress(self.candidates, nms_threshold), score_threshold)


def from_score(detections: Detections, threshold: float) -> Detections:
    """The detections whose score is at least `threshold`."""
    kept = detections.scores >= np.float32(threshold)
    return Detections(detections.boxes[kept], detections.labels[kept], detections.scores[kept])


@dataclass(frozen=True, eq=False)
class InspectedModel:
    """The detector, its classes matched with those of the data, and the limits of image decoding."""

    detector: Detector
    match: LabelMatch
    limits: Limits


def inspect_images(
    model: InspectedModel, truths: Sequence[GroundTruth], files: Sequence[Path], advance: Callable[[], None]
) -> Iterator[InspectedImage]:
    """Inspect the images whose files can be read; `advance` is called after each file.

    Raises MemoryError if one image exceeds the memory of the device.
    """
    detector = model.detector
    classes = model.match.known if model.match.extra else None
    everything = MAX_PROPOSALS * len(detector.card.labels)
    options = Options(FLOOR, KEEP_ALL, everything, classes)
    jobs = read_jobs(detector, files, options, model.limits)
    for truth, job in zip(truths, jobs, strict=True):
        if not isinstance(job, str):
            yield _inspect(model, truth, job)
        advance()


def _inspect(model: InspectedModel, truth: GroundTruth, job: Job) -> InspectedImage:
    detector, canvas = model.detector, job.canvas
    [found] = detector.detect([job])
    regions = detector.regions(job, replace(detector.proposal_config, post_nms=MAX_PROPOSALS))
    (height, width), (new_height, new_width) = canvas.image_size, canvas.content
    scale = new_width / width, new_height / height
    return InspectedImage(
        truth=truth,
        candidates=model.match.translate(as_sent(found)),
        proposals=regions.proposals.cpu().numpy(),
        scale=scale,
        anchor_ious=_anchor_ious(truth.boxes[~truth.ignored], scale, regions),
    )


def _anchor_ious(objects: Boxes, scale: tuple[float, float], regions: Regions) -> Floats:
    """IoU of each object (N,) with its best anchor of all positions and levels."""
    device = regions.proposals.device
    boxes = torch.from_numpy(objects * np.array([*scale, *scale], np.float32)).to(device)
    best = [box_iou(boxes, anchors).amax(dim=1) for anchors in regions.anchors if len(boxes)]
    ious: Floats = torch.stack(best).amax(dim=0).double().cpu().numpy() if best else np.zeros(0)
    return ious
