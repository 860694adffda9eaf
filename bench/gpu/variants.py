"""What is measured: our detector with and without upload, and torchvision as its users run it on a GPU."""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from bench.gpu.measuring import Run
from bench.peers.model import LIMITS, Eager, Observe
from models.detector import Detector, Job
from models.images.decoder import Image, decode
from models.options import Options
from models.pipeline.batches.device_thread import CallOnThread, same_thread
from models.pipeline.canvas import Canvas, StagedCanvas

FLOOR = 0.05  # the lowest score that torchvision's own forward keeps
COMPILED = ("backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor")


@dataclass(frozen=True)
class Variant:
    """A way to answer a batch; `stages` fills in the seconds of its stages, if it has any.

    `on_thread` calls a function on the thread that does the work: operations are counted there.
    """

    name: str
    run: Run
    stages: Callable[[Observe], object] | None = None
    on_thread: CallOnThread = same_thread


class Uploading:
    """Prepares the next batch on threads while the current one runs, as the service does."""

    def __init__(
        self, detector: Detector, images: Sequence[Image], options: Options, threads: ThreadPoolExecutor
    ) -> None:
        self._detector, self._images, self._options, self._threads = detector, images, options, threads
        self._next = self._prepare()

    def _prepare(self) -> "list[Future[Canvas | StagedCanvas]]":
        return [self._threads.submit(self._detector.prepare, image) for image in self._images]

    def __call__(self) -> object:
        """One batch."""
        jobs = [Job(future.result(), self._options) for future in self._next]
        self._next = self._prepare()
        return self._detector.detect(jobs)


def our_variants(
    detector: Detector, jpegs: Sequence[bytes], threads: int, stack: ExitStack
) -> Iterator[Variant]:
    """The engine alone, its canvases on the device, and the engine with upload, its pixels on the host."""
    options = Options(FLOOR, detector.card.nms_threshold, detector.card.max_detections)
    images = [decode(jpeg, LIMITS) for jpeg in jpegs]
    jobs = [Job(_resident(detector.prepare(image), detector.device), options) for image in images]
    name = f"ours, {detector.engine_name} {detector.precision}"
    alone, thread = partial(detector.detect, jobs), detector.on_thread
    yield Variant(f"{name}, engine alone", alone, alone, thread)
    pool = stack.enter_context(ThreadPoolExecutor(threads))
    yield Variant(f"{name}, with upload", Uploading(detector, images, options, pool), None, thread)


def _resident(canvas: Canvas | StagedCanvas, device: str) -> Canvas:
    """The canvas with its pixels on the device."""
    pixels = canvas.make(lambda rows: rows.to(device))
    return Canvas(pixels, canvas.content, canvas.image_size)


def rivals(network: FasterRCNN, device: str, jpegs: Sequence[bytes], backend: str) -> Iterator[Variant]:
    """torchvision eager in fp32 and fp16, compiled, and through TensorRT if torch_tensorrt is installed.

    In fp32 cuDNN's convolutions use TF32, as is torch's default.
    """
    backends = [backend, *(["tensorrt"] if find_spec("torch_tensorrt") else [])]
    yield Variant("torchvision eager", _eager(network, device, jpegs))
    fp16 = copy.deepcopy(network).to(memory_format=torch.channels_last)
    yield Variant("torchvision eager, fp16", _in_half(_eager(fp16, device, jpegs), device))
    for name in backends:
        compiled = compiled_network(fp16, name)
        yield Variant(
            f"torchvision compiled by {name}, fp16", _in_half(_eager(compiled, device, jpegs), device)
        )


def compiled_network(network: FasterRCNN, backend: str) -> FasterRCNN:
    """A copy whose static parts are compiled: torchvision's lists of images cannot be."""
    if backend == "tensorrt":
        __import__("torch_tensorrt")  # registers its backend
    compiled = copy.deepcopy(network)
    for path in COMPILED:
        parent, _, name = path.rpartition(".")
        owner: nn.Module = compiled.get_submodule(parent)
        setattr(owner, name, torch.compile(getattr(owner, name), backend=backend, dynamic=False))
    return compiled


def _eager(network: FasterRCNN, device: str, jpegs: Sequence[bytes]) -> Run:
    model = Eager(network, device)
    return partial(model.predict, [model.decode(jpeg) for jpeg in jpegs])


def _in_half(run: Run, device: str) -> Run:
    def in_half() -> Any:
        with torch.autocast(torch.device(device).type, torch.float16):
            return run()

    return in_half
