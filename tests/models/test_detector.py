"""The detector through its public functions: batches, options, sizes, choices of engine and device."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.engines import EngineChoice, EngineUnavailable, build_engine, build_engines
from models.engines.protocol import DenseOutput, Engine
from models.evaluation.curves import overlaps
from models.images.decoder import Image
from models.ops.nms import torchvision_nms
from models.options import Options
from models.pipeline.checksums import NonFiniteOutputs
from models.pipeline.padded import Padded
from models.pipeline.rows import Shapes
from models.pipeline.tail import Tail
from models.pipeline.trimmed import Trimmed
from models.shapes.scenes import draw_scene
from models.zoo.weights import save_weights
from tests.support.data.networks import (
    LABELS,
    USUAL,
    assert_alike,
    detect,
    random_card,
    random_detector,
    random_network,
)

pytestmark = pytest.mark.network


@pytest.fixture(scope="module", params=["torch", "openvino"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return random_detector(engine=request.param)


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Six scenes of one canvas size and different content."""
    crops = [draw_scene(5, k).pixels[:180, :240] for k in range(40)]
    return [Image(np.ascontiguousarray(crop), "PNG") for crop in crops if crop.shape == (180, 240, 3)][:6]


def test_a_batch_answers_as_each_image_alone(detector: Detector, images: list[Image]) -> None:
    alone = [detect(detector, image)[0] for image in images]
    together = detector.detect([Job(detector.prepare(image), USUAL) for image in images])
    assert len({len(answer) for answer in alone} | {0}) > 1, "the images must differ to tell anything"
    for one, other in zip(alone, together, strict=True):
        assert_alike(one, other)


def test_options_belong_to_the_request_not_the_batch(detector: Detector, images: list[Image]) -> None:
    options = [USUAL, Options(0.9, 0.5, 100), Options(0.05, 0.1, 100), Options(0.05, 0.5, 3)]
    canvas = detector.prepare(images[0])
    together = detector.detect([Job(canvas, each) for each in options])
    for each, answer in zip(options, together, strict=True):
        alone = detect(detector, images[0], options=each)[0]
        np.testing.assert_allclose(alone.scores, answer.scores, atol=1e-4)
    assert len(together[3]) == 3
    assert len(together[1]) < len(together[0])


def test_scores_are_sorted_and_above_the_floor(detector: Detector, images: list[Image]) -> None:
    answer = detect(detector, images[0], options=Options(0.2, 0.5, 100))[0]
    assert len(answer) > 2
    assert (np.diff(answer.scores) <= 0).all()
    assert (answer.scores > 0.2).all()


def test_boxes_lie_inside_the_image(detector: Detector, images: list[Image]) -> None:
    answer = detect(detector, images[1])[0]
    assert (answer.boxes >= 0).all()
    assert (answer.boxes[:, [0, 2]] <= images[1].width + 1e-3).all()
    assert (answer.boxes[:, [1, 3]] <= images[1].height + 1e-3).all()


def test_only_the_classes_asked_for(detector: Detector, images: list[Image]) -> None:
    everything = detect(detector, images[0], options=Options(0.05, 0.5, 1000))[0]
    wanted = int(everything.labels[0])
    answer = detect(detector, images[0], options=Options(0.05, 0.5, 1000, classes=frozenset({wanted})))[0]
    assert set(answer.labels) == {wanted}
    assert len(answer) == int((everything.labels == wanted).sum())
    assert len(detect(detector, images[0], options=Options(0.05, 0.5, 100, classes=frozenset()))[0]) == 0


def largest_overlap(boxes: np.ndarray) -> float:
    """The highest IoU of two different boxes."""
    return float(np.triu(overlaps(boxes, boxes), 1).max())


def test_class_agnostic_nms_lets_no_two_boxes_overlap(detector: Detector, images: list[Image]) -> None:
    per_class = detect(detector, images[0], options=Options(0.05, 0.3, 1000))[0]
    agnostic = detect(detector, images[0], options=Options(0.05, 0.3, 1000, class_agnostic=True))[0]
    assert largest_overlap(per_class.boxes) > 0.3
    assert largest_overlap(agnostic.boxes) <= 0.3 + 1e-5


def test_nms_threshold_may_be_looser_than_torchvisions(detector: Detector, images: list[Image]) -> None:
    tight, loose = (detect(detector, images[0], options=Options(0.05, nms, 1000))[0] for nms in (0.3, 0.9))
    assert len(loose) > len(tight)


def test_no_jobs_no_answers(detector: Detector) -> None:
    assert detector.detect([]) == []


def test_mixed_canvases_are_refused(detector: Detector, images: list[Image]) -> None:
    jobs = [Job(detector.prepare(images[0], size), USUAL) for size in (None, 256)]
    with pytest.raises(ValueError, match="share one canvas size"):
        detector.detect(jobs)


def test_size_asks_for_another_short_side(detector: Detector, images: list[Image]) -> None:
    assert min(detector.prepare(images[0]).content) == 128
    assert min(detector.prepare(images[0], 192).content) == 192
    long = Image(np.zeros((100, 1000, 3), np.uint8), "PNG")
    assert max(detector.prepare(long, 256).content) == 448  # twice the card's 224, as 256 is twice its 128


def test_every_stage_is_timed(detector: Detector, images: list[Image]) -> None:
    seconds: dict[str, float] = {}
    detector.detect([Job(detector.prepare(images[0]), USUAL)], seconds.__setitem__)
    assert list(seconds) == ["dense", "proposals", "roi_align", "head", "postprocess"]
    assert all(value > 0 for value in seconds.values())


def test_warm_up_finds_a_batch_within_the_cap(detector: Detector) -> None:
    assert detector.warm_up(1) == 1
    assert detector.warm_up(4) in (1, 2, 4)


class FullDevice:
    """An engine whose device has no memory left for more than one canvas."""

    name, device, precision = "full", "cpu", "fp32"
    recording = None
    suppress = staticmethod(torchvision_nms)

    def __init__(self, engine: object) -> None:
        self._engine = engine

    def dense(self, pixels: torch.Tensor) -> object:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._engine.dense(pixels)

    def head(self, pooled: torch.Tensor) -> object:
        return self._engine.head(pooled)


def test_a_full_device_is_a_memory_error_and_bounds_the_warm_up(images: list[Image]) -> None:
    card, network = random_detector().card, random_network()
    detector = Detector(network, card, FullDevice(build_engine(network, EngineChoice("cpu"))))
    canvas = detector.prepare(images[0])
    with pytest.raises(MemoryError, match="2 canvases"):
        detector.detect([Job(canvas, USUAL)] * 2)
    assert detector.warm_up(8) == 1


def test_the_detector_describes_itself(detector: Detector, request: pytest.FixtureRequest) -> None:
    engine = request.node.callspec.params["detector"]
    assert (detector.engine_name, detector.device, detector.precision) == (engine, "cpu", "fp32")
    assert detector.memory_bytes() == {}
    assert detector.card.labels == LABELS
    assert detector.fallback_reason is None


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (EngineChoice(engine="tensorrt"), "RCNN_ENGINE to auto, torch or openvino"),
        (EngineChoice("cpu", "torch", "fp16"), "fp16.*torch engine on cpu.*RCNN_PRECISION to auto, fp32"),
        (EngineChoice("cpu", "torch", "int8"), "int8.*torch engine on cpu.*RCNN_PRECISION to auto, fp32"),
        (EngineChoice("cpu", "openvino", "fp16"), "RCNN_PRECISION to auto, bf16 or fp32 or int8"),
        (EngineChoice("cpu", precision="int8"), "rcnn quantize --model NAME --images DIR"),
        (EngineChoice(device="cuda:99"), "RCNN_DEVICE to auto, cpu"),
    ],
)
def test_an_unavailable_choice_is_refused_by_name(choice: EngineChoice, message: str) -> None:
    with pytest.raises(EngineUnavailable, match=message):
        build_engine(random_network(), choice)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_devices_of_one_name_share_the_weights_and_answer_alike_at_once(
    images: list[Image], engine: str
) -> None:
    network, card = random_network(), random_card()
    built = build_engines(network, EngineChoice(engine=engine), ["cpu", "cpu"])
    first, second = (one.engine for one in built)
    assert first is not second
    detectors = [Detector(network, card, one) for one in (first, second)]
    [alone] = detect(detectors[0], images[0])

    def often(own: Detector) -> list[Detections]:
        return [detect(own, images[0])[0] for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:  # a thread each, as a detector takes one batch at a time
        answers = [answer for answers in pool.map(often, detectors) for answer in answers]
    for answer in answers:
        assert_alike(answer, alone)
    own = [list(weights_of(one)) for one in (first, second)]
    assert all(a is b for a, b in zip(*own, strict=True))


def weights_of(engine: Any) -> Iterator[object]:
    """What an engine computes with: torch's parameters, or OpenVINO's compiled parts."""
    for part in (engine._dense, engine._head):
        yield from part.parameters() if isinstance(part, torch.nn.Module) else [part]


def test_threads_are_set_when_asked() -> None:
    before = torch.get_num_threads()
    try:
        build_engine(random_network(), EngineChoice(device="cpu", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


class Overflowing:
    """An engine whose outputs for bright images hold a value that is not finite, in one of them."""

    recording = None

    def __init__(self, engine: Engine, output: str, value: float) -> None:
        self._engine, self._output, self._value = engine, output, value
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.suppress = engine.suppress
        self._bright = torch.zeros(0)

    def dense(self, pixels: torch.Tensor) -> DenseOutput:
        output = self._engine.dense(pixels)
        self._bright = pixels.mean((1, 2, 3)) > 1
        if self._output in ("objectness", "deltas"):
            getattr(output, self._output)[-1][self._bright, 0, 0, 0] = self._value
        return output

    def head(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, deltas = self._engine.head(pooled)
        if self._bright.any() and self._output in ("logits", "box deltas"):
            (logits if self._output == "logits" else deltas)[-1, 1] = self._value
        return logits, deltas


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("output", ["objectness", "deltas", "logits", "box deltas"])
@pytest.mark.parametrize("shapes", [Trimmed(), Padded()], ids=["trimmed", "padded"])
def test_an_overflow_is_an_error_and_not_an_empty_answer(output: str, value: float, shapes: Shapes) -> None:
    network = random_network()
    engine = Overflowing(build_engine(network, EngineChoice("cpu", "torch")), output, value)
    detector = Detector(network, random_card(), engine)
    detector._runner._tail = Tail(network, engine, shapes)
    white = Image(np.full((96, 128, 3), 255, np.uint8), "PNG")
    grey = Image(np.full((96, 128, 3), 90, np.uint8), "PNG")
    jobs = [Job(detector.prepare(image), USUAL) for image in (grey, white)]
    with pytest.raises(NonFiniteOutputs, match=r"outputs for 1 of 2 images are not finite.*RCNN_PRECISION"):
        detector.detect(jobs)
    assert len(detector.detect(jobs[:1])) == 1


def test_weights_that_are_finite_but_give_no_numbers_are_refused_at_load(tmp_path: Path) -> None:
    network = random_network()
    state = network.state_dict()
    next(tensor for name, tensor in state.items() if name.endswith("running_var")).fill_(-1.0)
    save_weights(network, tmp_path / "w.safetensors", half=False)
    card = tmp_path / "mine.toml"
    card.write_text(
        f'name = "mine"\narchitecture = "small"\nweights = "file:w.safetensors"\nlabels = {list(LABELS)}\n'
    )
    with pytest.raises(NonFiniteOutputs, match="get the weights again or train again"):
        load_detector(DetectorSpec(str(card), tmp_path, device="cpu", engine="torch"))
