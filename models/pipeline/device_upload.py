"""Uploads canvases to the device: on a GPU they are computed there while the current batch runs.

Each decoding thread copies the source bytes of its canvas from pinned memory, and resizes and normalises them
on a second stream. So a batch's canvases are on the device before the batch is formed. An upload is never
larger than its canvas; at most PREPARATIONS threads use temporary memory of the device at once.
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.images.decoder import Image
from models.ops.memory import is_out_of_memory
from models.pipeline.buckets import bucket, padded_to
from models.pipeline.canvas import TORCHVISION, Canvas, prepare
from models.zoo.sections import Preprocessing

# A canvas of 800x1333 needs some 80 MB of temporary device memory: uploads, and rows as floats. Without a
# limit each decoding thread, one for each core, could hold that; the kernels of all share one stream anyway.
PREPARATIONS = 4


class DeviceUpload:
    """Makes canvases for a device, on any thread, and stacks them to batches on the inference thread."""

    def __init__(
        self, device: torch.device, preprocessing: Preprocessing = TORCHVISION, bucketed: bool = False
    ) -> None:
        """`bucketed`: canvases of a GPU have few sizes (models.pipeline.buckets)."""
        self._device, self._bucketed = device, bucketed
        self._preparations = threading.BoundedSemaphore(PREPARATIONS)
        self._prepare = partial(prepare, how=preprocessing)
        self._stream: torch.cuda.Stream | None = None
        self._batches: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream, self._batches = (_new_stream(device) for _ in range(2))

    def computing(self) -> AbstractContextManager[object]:
        """Batches run inside this, on a stream of this device's own.

        On the default stream two detectors of one GPU would wait for each other, and those of two GPUs too: a
        canvas of another GPU is copied on that GPU's default stream.
        """
        return nullcontext() if self._batches is None else torch.cuda.stream(self._batches)

    def prepare(self, image: Image, min_size: int, max_size: int) -> Canvas:
        """The image's canvas: on the device, or in the host's memory if the device is full."""
        if self._stream is None:
            return self._prepare(image, min_size, max_size)
        try:
            with torch.cuda.stream(self._stream):
                canvas = self._prepare(image, min_size, max_size, self._send, self._preparations)
                canvas = self._fitted(canvas, (min_size, max_size))
                return replace(canvas, ready=self._stream.record_event())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            canvas = self._prepare(image, min_size, max_size)  # queued ones fill it; `stack` uploads this one
            return self._fitted(canvas, (min_size, max_size))

    def _fitted(self, canvas: Canvas, limits: tuple[int, int]) -> Canvas:
        """The canvas in its bucket."""
        if not self._bucketed:
            return canvas
        return replace(canvas, pixels=padded_to(canvas.pixels, bucket(canvas.key, limits)))

    def send(self, tensor: Tensor) -> Tensor:
        """A copy on the device, for the current stream; the host does not wait for it."""
        return tensor.to(self._device) if self._stream is None else self._send(tensor)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def stack(self, canvases: Sequence[Canvas], place: Tensor | None = None) -> Tensor:
        """Canvases of one key as a batch (B, H, W, 3) on the device, for the current stream; in `place`."""
        if self._stream is None:
            return _stacked([canvas.pixels for canvas in canvases], place)
        current = torch.cuda.current_stream(self._device)
        for canvas in canvases:
            if canvas.ready is not None:
                current.wait_event(canvas.ready)
        batch = _stacked([canvas.pixels.to(self._device) for canvas in canvases], place)
        # A canvas was allocated on the upload stream, which may reuse its memory once the canvas is freed:
        # make that stream wait for this copy. The jobs keep the canvases alive until then.
        self._stream.wait_event(current.record_event())
        return batch


def _stacked(pixels: list[Tensor], place: Tensor | None) -> Tensor:
    if place is None:
        return torch.stack(pixels)
    torch._foreach_copy_(list(place.unbind()), pixels)  # to the type of the place, too
    return place


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
