"""The GPU's path: answers, graphs, copies, memory, fallback.

`make test-gpu` runs all of it on a CUDA device. Without one the tests that are not marked `gpu` run on the
CPU, with stand-ins for the engine's choice of device and for the recorder (`tests.support.cuda`).
"""

import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.protocol import DenseOutput, Engine, Recording
from models.engines.torch_engine import TorchEngine
from models.images.decoder import Image
from models.options import Options
from models.pipeline.canvas import prepare
from models.shapes.scenes import draw_scene
from tests.support.cuda import DEVICE, gpu_detector, gpu_engine, recorded, recorder
from tests.support.data.networks import canvases, detect, matches, random_card, random_network

pytestmark = pytest.mark.network

OPTIONS = Options(0.05, 0.5, 1000)
SPREAD = 10.0  # of class scores: wider still, rounding in the features would show in them
KEY = (128, 192)
MATCHED = {"fp32": 0.98, "fp16": 0.9, "bf16": 0.75}
NEAR = {"fp32": (0.05, 1e-3), "fp16": (1.0, 0.03), "bf16": (4.0, 0.15)}  # px, score


def build(precision: str = "fp32") -> Engine:
    return gpu_engine(random_network(SPREAD), precision)


def detector_of(engine: Engine) -> Detector:
    return gpu_detector(random_network(SPREAD), random_card(), engine)


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Eight scenes of one canvas size and different content."""
    return [Image(np.resize(draw_scene(5, k).pixels, (180, 240, 3)), "PNG") for k in range(8)]


@pytest.fixture(scope="module")
def cpu() -> Detector:
    engine = build_engine(random_network(SPREAD), EngineChoice("cpu", "torch"))
    return Detector(random_network(SPREAD), random_card(), engine)


def all_of(detector: Detector, images: list[Image]) -> list[Detections]:
    return detect(detector, *images, options=OPTIONS)


def share(ours: list[Detections], expected: list[Detections], precision: str) -> float:
    """Share of detections that have a match."""
    found = sum(matches(one, other, *NEAR[precision]) for one, other in zip(ours, expected, strict=True))
    return found / max(sum(map(len, ours)), sum(map(len, expected)))


def on_device(batch: int, seed: int) -> Tensor:
    return canvases(batch, *KEY, seed).to(DEVICE, memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("with_graph", [False, True], ids=["eager", "graph"])
def test_answers_are_the_cpus(cpu: Detector, images: list[Image], precision: str, with_graph: bool) -> None:
    detector = detector_of(build(precision))
    if with_graph:
        detector.get_ready(len(images), detector.prepare(images[0]).key)
    assert len(recorded(detector).shapes) == with_graph
    expected = all_of(cpu, images)
    assert sum(map(len, expected)) > 50, "too few detections to tell anything"
    assert share(all_of(detector, images), expected, precision) >= MATCHED[precision]


@pytest.mark.gpu
def test_auto_is_half_precision_on_a_gpu() -> None:
    engine = build_engine(random_network(), EngineChoice("cuda"))
    assert (engine.name, engine.precision) == ("torch", "fp16")
    assert engine.device.startswith("cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_replay_answers_as_the_eager_run(images: list[Image], precision: str) -> None:
    detector, eager = (detector_of(build(precision)) for _ in range(2))
    for batch in (1, 3):
        detector.get_ready(batch, KEY)
    assert recorded(detector).shapes == [(1, *KEY), (4, *KEY)]
    for some in (images[:3], images[3:4], images[4:7], images[7:]):  # in turns: graphs of one pool
        assert share(all_of(detector, some), all_of(eager, some), "fp32") >= 0.98


def test_a_batch_answers_as_each_image_alone(images: list[Image]) -> None:
    detector = detector_of(build("fp32"))
    for batch in (1, len(images)):
        detector.get_ready(batch, detector.prepare(images[0]).key)
    alone = [all_of(detector, [image])[0] for image in images]
    assert share(all_of(detector, images), alone, "fp32") >= 0.98


def test_a_batch_may_be_launched_before_the_one_before_is_read(cpu: Detector, images: list[Image]) -> None:
    detector = detector_of(build("fp32"))
    detector.get_ready(4, detector.prepare(images[0]).key)
    jobs = [Job(detector.prepare(image), OPTIONS) for image in images]
    launched = [detector.launch(half) for half in (jobs[:4], jobs[4:])]
    with ThreadPoolExecutor(1) as another:
        halves = list(another.map(detector.read, launched))
    answers = [answer for half in halves for answer in half]
    assert share(answers, all_of(cpu, images), "fp32") >= MATCHED["fp32"]


@pytest.mark.gpu
def test_canvases_made_on_the_device_are_the_hosts(images: list[Image]) -> None:
    detector = detector_of(build())
    tiny = Image(np.full((3, 2, 3), 9, np.uint8), "PNG")
    for image in (images[0], Image(draw_scene(3, 1).pixels, "PNG"), tiny):
        ours, theirs = detector.prepare(image), prepare(image, 128, 224)
        assert (ours.key, ours.content, ours.image_size) == (theirs.key, theirs.content, theirs.image_size)
        with detector._upload.computing():
            [pixels] = detector._upload.stack([ours])
        assert pixels.device == DEVICE
        torch.cuda.synchronize()
        torch.testing.assert_close(pixels.cpu(), theirs.pixels, rtol=0, atol=5e-3)


@pytest.mark.gpu
def test_canvases_of_many_threads_while_batches_run(images: list[Image]) -> None:
    """Canvases let go are memory for the next, on another stream: none is overwritten before it is read."""
    detector = detector_of(build("fp32"))
    detector.get_ready(4, detector.prepare(images[0]).key)
    expected = [all_of(detector, [image])[0] for image in images]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            prepared = list(threads.map(detector.prepare, images))
            halves = [
                detector.detect([Job(canvas, OPTIONS) for canvas in half])
                for half in (prepared[:4], prepared[4:])
            ]
            assert share([answer for half in halves for answer in half], expected, "fp32") >= 0.98


class Copies(TorchDispatchMode):
    """Counts copies of tensors from the device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> object:
        answer = operation(*arguments, **(named or {}))
        if isinstance(answer, Tensor) and isinstance(arguments[0], Tensor):
            places = arguments[0].device.type, answer.device.type
            self.found += [str(tuple(answer.shape))] if places == ("cuda", "cpu") else []
        return answer


@pytest.mark.gpu
def test_the_answers_of_a_batch_leave_in_one_copy(images: list[Image]) -> None:
    detector = detector_of(build())
    jobs = [Job(detector.prepare(image), OPTIONS) for image in images]
    detector.detect(jobs)
    copies = Copies()

    def watched() -> list[Detections]:
        with copies:  # sees what its own thread does
            return detector.detect(jobs)

    answers = detector.on_thread(watched)
    assert sum(map(len, answers)) > 50
    assert len(copies.found) == 1


@pytest.mark.gpu
def test_every_stage_is_timed_on_the_device(images: list[Image]) -> None:
    detector = detector_of(build())
    seconds: dict[str, float] = {}
    detector.detect([Job(detector.prepare(images[0]), OPTIONS)], seconds.__setitem__)
    assert list(seconds) == ["dense", "proposals", "roi_align", "head", "postprocess"]
    assert all(value > 0 for value in seconds.values())


def test_warm_up_records_graphs_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    detector = detector_of(build("fp16"))
    with caplog.at_level(logging.WARNING):
        useful = detector.warm_up(4)
    assert caplog.records == []
    assert {(1, *KEY), (useful, *KEY)} <= set(recorded(detector).shapes)
    assert (detector.memory_bytes().get("allocated", 0) > 0) == (DEVICE.type == "cuda")


class Waiting:
    """An engine that waits for the device in its dense part, which no graph can hold."""

    recording = Recording(recorder())

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress

    def sibling(self) -> "Waiting":
        return self

    def dense(self, pixels: Tensor) -> DenseOutput:
        pixels.sum().item()
        return self._engine.dense(pixels)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return self._engine.head(pooled)


def test_what_cannot_be_captured_runs_eagerly_with_one_warning(
    cpu: Detector, images: list[Image], caplog: pytest.LogCaptureFixture
) -> None:
    detector = detector_of(Waiting(TorchEngine(random_network(SPREAD), DEVICE, "fp32")))
    stream = torch.cuda.current_stream() if DEVICE.type == "cuda" else None
    with caplog.at_level(logging.WARNING):
        for batch in (1, 2):
            detector.get_ready(batch, KEY)
    assert len(caplog.records) == 1
    assert recorded(detector).shapes == []
    assert stream is None or torch.cuda.current_stream() == stream
    assert share(all_of(detector, images), all_of(cpu, images), "fp32") >= MATCHED["fp32"]


@pytest.fixture
def allocated() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


@pytest.mark.gpu
def test_memory_is_returned(allocated: int, images: list[Image]) -> None:
    detector = detector_of(build("fp16"))
    detector.get_ready(2, detector.prepare(images[0]).key)
    all_of(detector, images[:2])
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() > allocated + 2**20
    del detector
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() <= allocated + 2**20


@pytest.mark.gpu
def test_memory_does_not_grow_from_batch_to_batch(images: list[Image]) -> None:
    detector = detector_of(build("fp16"))
    for _ in range(3):
        all_of(detector, images)
    before = torch.cuda.memory_allocated()
    for _ in range(30):
        all_of(detector, images)
    assert torch.cuda.memory_allocated() <= before + 2**20
