"""Timing of R-CNN, Fast R-CNN and Faster R-CNN with one network on the same images and machine."""

import platform
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.engines import choose_device
from models.engines.protocol import DenseOutput
from models.images.decoder import Image
from models.lineage.fast_rcnn import FastRCNN
from models.lineage.rcnn import RCNN
from models.lineage.selective_search import Boxes, load_segmentation, selective_search
from models.networks import build_network
from models.options import Options
from models.pipeline.canvas import Canvas, prepare
from models.pipeline.proposals import Proposer, proposal_config

CLASSES = 21  # Pascal VOC's 20 and the background, as in the papers
OPTIONS = Options(score_threshold=0.5, nms_threshold=0.5, max_detections=100)


@dataclass(frozen=True)
class Seconds:
    """The time of an image: for proposals and for the network; None if it was not measured."""

    proposals: float | None
    network: float

    @property
    def total(self) -> float:
        """The sum of the measured times."""
        return (self.proposals or 0.0) + self.network


@dataclass(frozen=True)
class Plan:
    """The network, proposals per image, crops of them that R-CNN is timed on, and the device."""

    architecture: str = "small"
    proposals: int = 2000
    crops: int = 64
    device: str = "auto"


@dataclass(frozen=True)
class ImageTimes:
    """The times of one image; R-CNN's are scaled from `crops` to all `searched` proposals."""

    rcnn: Seconds
    fast_rcnn: Seconds
    faster_rcnn: Seconds
    searched: int  # proposals of Selective Search
    crops: int
    proposed: int  # proposals of the RPN


@dataclass(frozen=True)
class LineageTimes:
    """Means over the images, and the machine."""

    rcnn: Seconds
    fast_rcnn: Seconds
    faster_rcnn: Seconds
    searched: float
    crops: float
    proposed: float
    images: int
    machine: str


# VGG-16 on Pascal VOC, one K40 GPU. R-CNN: Girshick 2015, table 4, which counts no proposals. The others: Ren
# et al. 2015, table 5; proposals are Selective Search on a CPU, and the RPN's layers and NMS.
PUBLISHED = LineageTimes(
    rcnn=Seconds(None, 47.0),
    fast_rcnn=Seconds(1.510, 0.320),
    faster_rcnn=Seconds(0.010, 0.188),
    searched=2000,
    crops=2000,
    proposed=300,
    images=4952,
    machine="Nvidia K40",
)


def time_lineage(images: Sequence[Image], plan: Plan) -> Iterator[ImageTimes]:
    """Time the three methods on each image after a warm-up; weights are random.

    Raises, when called, ValueError for an unknown architecture or device, or SelectiveSearchMissing.
    """
    load_segmentation()
    bench = _Benchmark(plan)
    return bench.run(images)


def summarise(times: Sequence[ImageTimes], device: str) -> LineageTimes:
    """The means of the times of one or more images."""

    def seconds(each: Iterable[Seconds]) -> Seconds:
        proposals, networks = zip(*((image.proposals or 0.0, image.network) for image in each), strict=True)
        return Seconds(statistics.mean(proposals), statistics.mean(networks))

    return LineageTimes(
        rcnn=seconds(image.rcnn for image in times),
        fast_rcnn=seconds(image.fast_rcnn for image in times),
        faster_rcnn=seconds(image.faster_rcnn for image in times),
        searched=statistics.mean(image.searched for image in times),
        crops=statistics.mean(image.crops for image in times),
        proposed=statistics.mean(image.proposed for image in times),
        images=len(times),
        machine=_machine(choose_device(device)),
    )


class _Benchmark:
    """The three methods on one network, with shared weights and common code."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._device = choose_device(plan.device)
        torch.manual_seed(0)
        network = build_network(plan.architecture, CLASSES).eval()
        network.to(self._device, memory_format=torch.channels_last)
        self._sizes: tuple[int, int] = network.transform.min_size[0], network.transform.max_size
        self._rcnn, self._fast_rcnn, self._rpn = RCNN(network), FastRCNN(network), _RPN(network)

    def run(self, images: Sequence[Image]) -> Iterator[ImageTimes]:
        """The times of each image, after a warm-up on the first with proposals of the RPN."""
        _, boxes = self._faster(images[0])
        self._fast(images[0], boxes)
        self._single(images[0], boxes[: self._plan.crops])
        for image in images:
            yield self._time(image)

    def _time(self, image: Image) -> ImageTimes:
        started = time.perf_counter()
        boxes = selective_search(image.pixels, self._plan.proposals)
        searching = time.perf_counter() - started
        crops = _spread(boxes, self._plan.crops)
        faster, proposed = self._faster(image)
        fast = self._fast(image, boxes)
        single = self._single(image, crops) * len(boxes) / len(crops)
        return ImageTimes(
            rcnn=Seconds(searching, single),
            fast_rcnn=Seconds(searching, fast),
            faster_rcnn=faster,
            searched=len(boxes),
            crops=len(crops),
            proposed=len(proposed),
        )

    @torch.inference_mode()
    def _faster(self, image: Image) -> tuple[Seconds, Boxes]:
        """Seconds of Faster R-CNN, and its proposals (N, 4) xyxy image px."""
        started = time.perf_counter()
        canvas = prepare(image, *self._sizes)
        features = self._fast_rcnn.features(canvas)
        shared = self._now()
        boxes = self._rpn(features, canvas)
        proposed = self._now()
        self._fast_rcnn.classify(features, boxes, canvas, OPTIONS)
        ended = self._now()
        seconds = Seconds(proposed - shared, shared - started + ended - proposed)
        return seconds, canvas.to_image(boxes).cpu().numpy()

    def _fast(self, image: Image, boxes: Boxes) -> float:
        started = time.perf_counter()
        self._fast_rcnn.detect(prepare(image, *self._sizes), boxes, OPTIONS)
        return self._now() - started

    def _single(self, image: Image, boxes: Boxes) -> float:
        started = time.perf_counter()
        self._rcnn.detect(image, boxes, OPTIONS)
        return self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # otherwise only kernel launches are timed
        return time.perf_counter()


class _RPN:
    """Proposals of the RPN from the levels of a backbone."""

    def __init__(self, network: FasterRCNN) -> None:
        self._head = network.rpn.head
        self._propose = Proposer(proposal_config(network))

    def __call__(self, features: list[Tensor], canvas: Canvas) -> Tensor:
        """Proposals (N, 4) xyxy canvas px."""
        objectness, deltas = self._head(features)
        [boxes] = self._propose(DenseOutput(features, objectness, deltas), canvas.key, [canvas.content])
        return boxes


def _spread(boxes: Boxes, most: int) -> Boxes:
    """At most `most` of the boxes, evenly over their order."""
    index = np.linspace(0, len(boxes) - 1, min(most, len(boxes))).round().astype(np.int64)
    return boxes[index]


def _machine(device: torch.device) -> str:
    cpu = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if device.type == "cuda" else cpu
