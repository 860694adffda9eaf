"""Makes the canvases of a batch on the device that runs it.

A decoding thread leaves the rows of an image that its canvas needs in pinned memory of the host. On which
device the canvas will run is known when its batch is formed: then the rows are sent to that device, resized
and normalised there, on a second stream. While one batch is computed, those of the next are made beside it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from models.images.decoder import Image
from models.ops.memory import is_out_of_memory
from models.pipeline.buckets import bucket
from models.pipeline.canvas import TORCHVISION, Canvas, StagedCanvas, prepare, stage
from models.zoo.sections import Preprocessing


class DeviceUpload:
    """Prepares images for a device, on any thread, and makes batches of them on the inference thread."""

    def __init__(
        self, device: torch.device, preprocessing: Preprocessing = TORCHVISION, bucketed: bool = False
    ) -> None:
        """`bucketed`: canvases of a GPU have few sizes (models.pipeline.buckets)."""
        self._device, self._bucketed = device, bucketed
        self._how = preprocessing
        self._stream: torch.cuda.Stream | None = None
        self._batches: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream, self._batches = (_new_stream(device) for _ in range(2))

    def computing(self) -> AbstractContextManager[object]:
        """Batches run inside this, on a stream of this device's own.

        On the default stream two detectors of one GPU would wait for each other.
        """
        return nullcontext() if self._batches is None else torch.cuda.stream(self._batches)

    def prepare(self, image: Image, min_size: int, max_size: int) -> Canvas | StagedCanvas:
        """The image's canvas; for a GPU what it needs of the image, on no device yet."""
        if self._stream is None:
            return prepare(image, min_size, max_size, how=self._how)
        fit = partial(bucket, limits=(min_size, max_size)) if self._bucketed else None
        return stage(image, min_size, max_size, _pinned, self._how, fit)

    def send(self, tensor: Tensor) -> Tensor:
        """A copy on the device, for the current stream; the host does not wait for it."""
        return tensor.to(self._device) if self._stream is None else self._send(tensor)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def stack(self, canvases: Sequence[Canvas | StagedCanvas], place: Tensor | None = None) -> Tensor:
        """Canvases of one key as a batch (B, H, W, 3) on the device, for the current stream; in `place`."""
        if self._stream is None:
            return _stacked([canvas.make(self.send) for canvas in canvases], place)
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            made = [canvas.make(self.send).to(self._device) for canvas in canvases]
        current.wait_stream(self._stream)
        batch = _stacked(made, place)
        # They were allocated on the upload stream, which may reuse their memory as soon as they are freed.
        self._stream.wait_event(current.record_event())
        return batch


def _stacked(pixels: list[Tensor], place: Tensor | None) -> Tensor:
    if place is None:
        return torch.stack(pixels)
    torch._foreach_copy_(list(place.unbind()), pixels)  # to the type of the place, too
    return place


def _pinned(rows: Tensor) -> Tensor:
    """A copy in pinned memory; as they are where there is too little of it: then the upload pins them."""
    try:
        return rows.pin_memory()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return rows


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
