"""Canvases for a device: the same arithmetic wherever it happens, and nothing of it left on the host."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.images.decoder import Image
from models.pipeline.canvas import prepare
from models.pipeline.device_upload import DeviceUpload


def image(height: int, width: int) -> Image:
    return Image(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8), "PNG")


def test_on_a_cpu_nothing_is_uploaded() -> None:
    upload = DeviceUpload(torch.device("cpu"))
    canvas, same = upload.prepare(image(60, 90), 128, 224), prepare(image(60, 90), 128, 224)
    assert torch.equal(canvas.pixels, same.pixels)
    assert canvas.ready is None
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


def test_shared_rows_are_uploaded_once() -> None:
    sent = sent_of(image(100, 90), 180, 200)
    assert [tuple(tensor.shape) for tensor in sent if tensor.dtype == torch.uint8] == [(100, 3 * 180)] * 2


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
