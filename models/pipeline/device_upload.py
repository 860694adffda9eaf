"""The way of canvases to the device that computes: on a GPU they are made there, beside the batch that runs.

Each decoding thread sends the bytes that its canvas is made of, from pinned memory, and has them blended and
normalised on a second stream: by the time a batch is formed its canvases are on the device. What travels is
never more than a canvas holds, and none of it while the device waits.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.images.decoder import Image
from models.pipeline.canvas import Canvas, prepare


class DeviceUpload:
    """Makes canvases for a device, on any thread, and batches of them on the thread that computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it

    def prepare(self, image: Image, min_size: int, max_size: int) -> Canvas:
        """The image's canvas: on the device where there is room for it, else in the host's memory."""
        if self._stream is None:
            return prepare(image, min_size, max_size)
        try:
            with torch.cuda.stream(self._stream):
                canvas = prepare(image, min_size, max_size, self._send)
                return replace(canvas, ready=self._stream.record_event())
        except torch.OutOfMemoryError:  # those that wait have filled it; the batch will find room
            return prepare(image, min_size, max_size)

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
        # A canvas was allocated on the other stream, which may use its memory again once it is let go: only
        # after this. The caller holds the canvases until then, so that none has to be recorded on a stream.
        self._stream.wait_event(current.record_event())
        return batch
