"""Canvases for a device: the same arithmetic wherever it happens, and nothing of it left on the host."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from models.detector import Detector, Job
from models.engines.torch_engine import TorchEngine
from models.images.decoder import Image
from models.pipeline.canvas import Canvas, StagedCanvas, prepare
from models.pipeline.device_upload import DeviceUpload
from models.zoo.sections import Preprocessing
from tests.support.data.networks import USUAL, random_card, random_network


def image(height: int, width: int) -> Image:
    return Image(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8), "PNG")


def test_on_a_cpu_nothing_is_uploaded() -> None:
    upload = DeviceUpload(torch.device("cpu"))
    canvas, same = upload.prepare(image(60, 90), 128, 224), prepare(image(60, 90), 128, 224)
    assert isinstance(canvas, Canvas)
    assert torch.equal(canvas.pixels, same.pixels)
    assert upload.stack([canvas, canvas]).shape == (2, 128, 192, 3)


def sent_of(picture: Image, min_size: int, max_size: int) -> list[Tensor]:
    """What travels for an image's canvas, which is the same as without."""
    sent: list[Tensor] = []

    def send(tensor: Tensor) -> Tensor:
        sent.append(tensor)
        return tensor.clone()

    canvas = prepare(picture, min_size, max_size, send)
    assert torch.equal(canvas.pixels, prepare(picture, min_size, max_size).pixels)
    return sent


def test_only_needed_rows_are_uploaded_as_bytes() -> None:
    sent = sent_of(image(1600, 900), 90, 160)
    ends, weights = sent[:2], sent[2:]  # before and after each new pixel, in the two rows that it touches
    assert {(tuple(tensor.shape), tensor.dtype) for tensor in ends} == {((2 * 160, 3 * 90), torch.uint8)}
    assert {(tensor.numel(), tensor.dtype) for tensor in weights} == {
        (3 * 90, torch.float32),
        (160, torch.float32),
    }


@pytest.mark.parametrize(("height", "width"), [(100, 90), (300, 270)], ids=["enlarged", "reduced"])
def test_an_image_of_up_to_twice_the_size_is_uploaded_as_it_is(height: int, width: int) -> None:
    """Each pixel once, in a byte; gathered for each new pixel it would be two to six times as much."""
    sent = sent_of(image(height, width), 180, 200)
    assert [tuple(tensor.shape) for tensor in sent if tensor.dtype == torch.uint8] == [(height, 3 * width)]


def test_everything_after_the_upload_runs_on_the_device() -> None:
    """A tensor of the host among those of the device would be an error here, as on the device itself."""
    device, pretended, rest = torch.device("cuda:7"), FakeTensorMode(allow_non_fake_inputs=True), ExitStack()

    def send(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():  # the last that the host makes
            rest.enter_context(pretended)
        with pretended:
            return pretended.from_tensor(tensor).to(device)

    with rest:
        canvas = prepare(image(60, 90), 128, 224, send)
    assert canvas.pixels.device == device
    assert canvas.key == (128, 192)


def test_each_detector_computes_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the default stream, nor that of its uploads, nor that of another detector of the device."""
    made: list[object] = []
    entered: list[object] = []

    def stream(device: torch.device) -> object:
        made.append(object())
        return made[-1]

    def enter(stream: object) -> ExitStack:
        entered.append(stream)
        return ExitStack()

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", enter)
    uploads = [DeviceUpload(torch.device("cuda:0")) for _ in range(2)]
    assert len(made) == 4
    for upload in uploads:
        with upload.computing():
            pass
    assert len(set(map(id, entered))) == 2
    assert {id(upload._stream) for upload in uploads}.isdisjoint(map(id, entered))
    with DeviceUpload(torch.device("cpu")).computing():
        assert len(entered) == 2


class NoStream:
    """In place of a CUDA stream or an event of it."""

    def __init__(self, device: torch.device | None = None) -> None:
        pass

    def record_event(self) -> "NoStream":
        return self

    def wait_event(self, event: "NoStream") -> None:
        pass

    def wait_stream(self, stream: "NoStream") -> None:
        pass


@pytest.fixture
def without_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)


@pytest.mark.usefixtures("without_streams")
def test_a_canvas_is_made_on_the_device_whose_batch_it_joins() -> None:
    """Whichever detector of several has prepared it; until then no device holds anything of it."""
    devices = [torch.device("cuda:5"), torch.device("cuda:6")]
    uploads = [DeviceUpload(device) for device in devices]
    canvas = uploads[0].prepare(image(60, 90), 128, 224)
    assert isinstance(canvas, StagedCanvas)
    assert canvas.nbytes == 60 * 90 * 3
    for upload, device in zip(uploads, devices, strict=True):
        with FakeTensorMode(allow_non_fake_inputs=True):
            batch = upload.stack([canvas, canvas])
        assert (batch.device, tuple(batch.shape)) == (device, (2, *canvas.key, 3))


@pytest.mark.usefixtures("without_streams")
@pytest.mark.parametrize("resize", ["torch", "pillow", "opencv"])
def test_a_staged_canvas_is_the_hosts(resize: Literal["torch", "pillow", "opencv"]) -> None:
    how, picture = Preprocessing(resize=resize), image(60, 90)
    staged, host = (
        DeviceUpload(torch.device(name), how).prepare(picture, 128, 224) for name in ("cuda", "cpu")
    )
    assert isinstance(staged, StagedCanvas)
    assert isinstance(host, Canvas)
    assert torch.equal(staged.make(torch.clone), host.pixels)
    assert (staged.key, staged.content, staged.image_size) == (host.key, host.content, host.image_size)


@pytest.mark.parametrize("bucketed", [True, False])
def test_on_a_gpu_canvases_have_few_sizes_and_the_same_content(
    monkeypatch: pytest.MonkeyPatch, bucketed: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    upload = DeviceUpload(torch.device("cuda"), bucketed=bucketed)
    fail_to_pin(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))  # so it is made on the host
    canvas, own = upload.prepare(image(90, 100), 128, 448), prepare(image(90, 100), 128, 448)
    assert own.key == (128, 160)
    assert canvas.key == ((128, 224) if bucketed else (128, 160))
    pixels = canvas.make(lambda rows: rows)
    assert pixels.shape[:2] == canvas.key
    assert torch.equal(pixels[:128, :160], own.pixels)
    assert canvas.content == own.content


def fail_to_pin(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def pin_memory(tensor: Tensor) -> Tensor:
        raise error

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)


@pytest.mark.usefixtures("without_streams")
def test_without_pinned_memory_an_image_is_staged_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_pin(monkeypatch, torch.AcceleratorError("CUDA error: out of memory"))
    canvas = DeviceUpload(torch.device("cuda")).prepare(image(60, 90), 128, 224)
    assert isinstance(canvas, StagedCanvas)
    assert torch.equal(canvas.make(torch.clone), prepare(image(60, 90), 128, 224).pixels)


@pytest.mark.usefixtures("without_streams")
def test_another_error_of_the_device_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_pin(monkeypatch, torch.AcceleratorError("CUDA error: unspecified launch failure"))
    with pytest.raises(torch.AcceleratorError, match="unspecified"):
        DeviceUpload(torch.device("cuda")).prepare(image(60, 90), 128, 224)


@pytest.mark.network
def test_all_of_a_batch_runs_on_the_stream_of_its_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what reads it, on whichever thread: on another stream it would not wait for the batch."""
    network, inside = random_network(), [0]
    detector = Detector(network, random_card(), TorchEngine(network, torch.device("cpu"), "fp32"))
    outside: list[object] = []

    @contextmanager
    def enter(stream: object) -> Iterator[None]:
        inside[0] += 1
        yield
        inside[0] -= 1

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, arguments: Any = (), named: Any = None
        ) -> object:
            outside.extend([] if inside[0] else [operation])
            return operation(*arguments, **(named or {}))

    monkeypatch.setattr(torch.cuda, "stream", enter)
    monkeypatch.setattr(detector._upload, "_batches", object())
    job = Job(detector.prepare(image(60, 90)), USUAL)
    with Watch():
        detector.detect([job])
    assert not outside
