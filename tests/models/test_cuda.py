"""The CUDA road, on a CUDA device alone (`make test-gpu`): answers, graphs, copies, memory, fallback."""

import gc
import io
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.detections import Detections
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.cuda_graphs import GraphRecorder
from models.engines.graphed_engine import GraphedEngine
from models.engines.protocol import DenseOutput, Engine
from models.engines.torch_engine import TorchEngine
from models.images.decoder import Image, Limits, UnreadableImage, decode
from models.options import Options
from models.pipeline.canvas import prepare
from models.pipeline.nvjpeg import NvJpeg
from models.shapes.scenes import draw_scene
from tests.support.data.networks import canvases, dense, detect, matches, random_card, random_network

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda:0")
OPTIONS = Options(0.05, 0.5, 1000)
SPREAD = 10.0  # of class scores: wider still, rounding in the features would show in them
KEY = (128, 192)
MATCHED = {"fp32": 0.98, "fp16": 0.9, "bf16": 0.75}
NEAR = {"fp32": (0.05, 1e-3), "fp16": (1.0, 0.03), "bf16": (4.0, 0.15)}  # px, score


def build(precision: str = "fp32") -> Engine:
    return build_engine(random_network(SPREAD), EngineChoice("cuda", "torch", precision))


def detector_of(engine: Engine) -> Detector:
    return Detector(random_network(SPREAD), random_card(), engine)


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Eight scenes of one canvas size and different content."""
    return [Image(np.resize(draw_scene(5, k).pixels, (180, 240, 3)), "PNG") for k in range(8)]


@pytest.fixture(scope="module")
def cpu() -> Detector:
    return detector_of(build_engine(random_network(SPREAD), EngineChoice("cpu", "torch")))


def all_of(detector: Detector, images: list[Image]) -> list[Detections]:
    return detect(detector, *images, options=OPTIONS)


def share(ours: list[Detections], expected: list[Detections], precision: str) -> float:
    """Share of detections that have a match."""
    found = sum(matches(one, other, *NEAR[precision]) for one, other in zip(ours, expected, strict=True))
    return found / max(sum(map(len, ours)), sum(map(len, expected)))


def on_device(batch: int, seed: int) -> Tensor:
    return canvases(batch, *KEY, seed).to(CUDA, memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("recorded", [False, True], ids=["eager", "graph"])
def test_answers_are_the_cpus(cpu: Detector, images: list[Image], precision: str, recorded: bool) -> None:
    detector = detector_of(engine := build(precision))
    if recorded:
        engine.get_ready(len(images), detector.prepare(images[0]).key)
        assert len(engine.recorded) == 1
    expected = all_of(cpu, images)
    assert sum(map(len, expected)) > 50, "too few detections to tell anything"
    assert share(all_of(detector, images), expected, precision) >= MATCHED[precision]


def test_auto_is_half_precision_on_a_gpu() -> None:
    engine = build_engine(random_network(), EngineChoice("cuda"))
    assert (engine.name, engine.precision) == ("torch", "fp16")
    assert engine.device.startswith("cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@torch.inference_mode()
def test_a_replay_equals_the_eager_run(precision: str) -> None:
    eager = TorchEngine(random_network(SPREAD), CUDA, precision)
    graphed = GraphedEngine(eager, GraphRecorder(CUDA))
    for batch in (1, 3):
        graphed.get_ready(batch, KEY)
    assert graphed.recorded == [(1, 3, *KEY), (3, 3, *KEY)]
    for batch, seed in ((3, 1), (1, 2), (3, 3), (1, 4)):  # in turns: graphs of one pool
        expected = [tensor.clone() for tensor in dense(eager, on_device(batch, seed))]
        for one, other in zip(dense(graphed, on_device(batch, seed)), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_a_batch_answers_as_each_image_alone(images: list[Image]) -> None:
    detector = detector_of(engine := build("fp32"))
    for batch in (1, len(images)):
        engine.get_ready(batch, detector.prepare(images[0]).key)
    alone = [all_of(detector, [image])[0] for image in images]
    assert share(all_of(detector, images), alone, "fp32") >= 0.98


def test_canvases_made_on_the_device_are_the_hosts(images: list[Image]) -> None:
    detector = detector_of(build())
    tiny = Image(np.full((3, 2, 3), 9, np.uint8), "PNG")
    for image in (images[0], Image(draw_scene(3, 1).pixels, "PNG"), tiny):
        ours, theirs = detector.prepare(image), prepare(image, 128, 224)
        assert ours.pixels.device == CUDA
        assert (ours.key, ours.content, ours.image_size) == (theirs.key, theirs.content, theirs.image_size)
        torch.cuda.synchronize()
        torch.testing.assert_close(ours.pixels.cpu(), theirs.pixels, rtol=0, atol=5e-3)


def test_canvases_of_many_threads_while_batches_run(images: list[Image]) -> None:
    """Canvases let go are memory for the next, on another stream: none is overwritten before it is read."""
    detector = detector_of(engine := build("fp32"))
    engine.get_ready(4, detector.prepare(images[0]).key)
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


def test_the_answers_of_a_batch_leave_in_one_copy(images: list[Image]) -> None:
    detector = detector_of(build())
    jobs = [Job(detector.prepare(image), OPTIONS) for image in images]
    detector.detect(jobs)
    with Copies() as copies:
        answers = detector.detect(jobs)
    assert copies.found == [str((sum(map(len, answers)) + len(jobs), 6))]  # a checksum for each image


def test_every_stage_is_timed_on_the_device(images: list[Image]) -> None:
    detector = detector_of(build())
    seconds: dict[str, float] = {}
    detector.detect([Job(detector.prepare(images[0]), OPTIONS)], seconds.__setitem__)
    assert list(seconds) == ["dense", "proposals", "roi_align", "head", "postprocess"]
    assert all(value > 0 for value in seconds.values())


def test_warm_up_records_graphs_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    detector = detector_of(engine := build("fp16"))
    with caplog.at_level(logging.WARNING):
        useful = detector.warm_up(4)
    assert caplog.records == []
    assert {(1, 3, *KEY), (useful, 3, *KEY)} <= set(engine.recorded)
    assert detector.memory_bytes()["allocated"] > 0


class Waiting:
    """An engine that waits for the device in its dense part, which no graph can hold."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision

    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        pass

    def dense(self, pixels: Tensor) -> DenseOutput:
        pixels.sum().item()
        return self._engine.dense(pixels)

    def head(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return self._engine.head(pooled)


def test_what_cannot_be_captured_runs_eagerly_with_one_warning(
    cpu: Detector, images: list[Image], caplog: pytest.LogCaptureFixture
) -> None:
    engine = GraphedEngine(Waiting(TorchEngine(random_network(SPREAD), CUDA, "fp32")), GraphRecorder(CUDA))
    stream = torch.cuda.current_stream()
    with caplog.at_level(logging.WARNING):
        for batch in (1, 2):
            engine.get_ready(batch, KEY)
    assert len(caplog.records) == 1
    assert engine.recorded == []
    assert torch.cuda.current_stream() == stream
    assert share(all_of(detector_of(engine), images), all_of(cpu, images), "fp32") >= MATCHED["fp32"]


@pytest.fixture
def allocated() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def test_memory_is_returned(allocated: int, images: list[Image]) -> None:
    detector = detector_of(engine := build("fp16"))
    engine.get_ready(2, detector.prepare(images[0]).key)
    all_of(detector, images[:2])
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() > allocated + 2**20
    del detector, engine
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() <= allocated + 2**20


def test_memory_does_not_grow_from_batch_to_batch(images: list[Image]) -> None:
    detector = detector_of(build("fp16"))
    for _ in range(3):
        all_of(detector, images)
    before = torch.cuda.memory_allocated()
    for _ in range(30):
        all_of(detector, images)
    assert torch.cuda.memory_allocated() <= before + 2**20


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def test_nvjpeg_gives_nearly_pillows_pixels_the_right_way_up() -> None:
    decoder, limits, exif = NvJpeg(CUDA), Limits(10**6), pillow.Exif()
    exif[0x0112] = 6
    data = jpeg(draw_scene(5, 1).pixels, exif=exif)
    assert decoder(data) is not None
    ours, theirs = decode(data, limits, jpeg=decoder).pixels, decode(data, limits).pixels
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 3


def test_what_nvjpeg_rejects_is_refused_as_usual() -> None:
    data = jpeg(draw_scene(5, 1).pixels)
    assert NvJpeg(CUDA)(data[: len(data) // 2]) is None
    with pytest.raises(UnreadableImage):
        decode(data[: len(data) // 2], Limits(10**6), jpeg=NvJpeg(CUDA))


def test_nvjpeg_on_many_threads() -> None:
    decoder, files = NvJpeg(CUDA), [jpeg(draw_scene(5, k).pixels) for k in range(16)]
    alone = [decoder(data) for data in files]
    with ThreadPoolExecutor(4) as threads:
        for one, other in zip(threads.map(decoder, files), alone, strict=True):
            np.testing.assert_array_equal(one, other)
