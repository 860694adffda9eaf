"""Uploads canvases to the device: on a GPU they are computed there while the current batch runs.

Each decoding thread copies the source bytes of its canvas from pinned memory, and resizes and normalises them
on a second stream. So a batch's canvases are on the device before the batch is formed. An upload is never
larger than its canvas.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.images.decoder import Image
from models.pipeline.canvas import TORCHVISION, Canvas, prepare
from models.zoo.sections import Preprocessing


class DeviceUpload:
    """Makes canvases for a device, on any thread, and stacks them to batches on the inference thread."""

    def __init__(self, device: torch.device, preprocessing: Preprocessing = TORCHVISION) -> None:
        self._device = device
        self._prepare = partial(prepare, how=preprocessing)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it

    def prepare(self, image: Image, min_size: int, max_size: int) -> Canvas:
        """The image's canvas: on the device, or in the host's memory if the device is full."""
        if self._stream is None:
            return self._prepare(image, min_size, max_size)
        try:
            with torch.cuda.stream(self._stream):
                canvas = self._prepare(image, min_size, max_size, self._send)
                return replace(canvas, ready=self._stream.record_event())
        except torch.OutOfMemoryError:  # queued canvases fill it; `stack` uploads this one
            return self._prepare(image, min_size, max_size)

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def stack(self, canvases: Sequence[Canvas]) -> Tensor:
        """Canvases of one key as a batch (B, H, W, 3) on the device, for the current stream."""
        if self._stream is None:
            return torch.stack([canvas.pixels for canvas in canvases])
        current = torch.cuda.current_stream(self._device)
        for canvas in canvases:
            if canvas.ready is not None:
                current.wait_event(canvas.ready)
        batch = torch.stack([canvas.pixels.to(self._device) for canvas in canvases])
        # A canvas was allocated on the upload stream, which may reuse its memory once the canvas is freed:
        # make that stream wait for this copy. The jobs keep the canvases alive until then.
        self._stream.wait_event(current.record_event())
        return batch
