"""nvJPEG through torchvision: an optional decoder of ordinary JPEGs for `models.images.decoder.decode`.

Off by default: it interpolates chroma differently from Pillow, so answers would differ between GPU and CPU,
and from the data that a network was trained on; the effect has not been measured. The image decoder still
checks header and limits, applies the orientation, and decodes every file that nvJPEG rejects. Pixels are
copied back to the host, where an `Image` always is.
"""

import warnings

import torch
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from models.images.decoder import Pixels

END = b"\xff\xd9"  # the end marker of a complete JPEG


class NvJpeg:
    """Decodes JPEGs on a CUDA device, from any thread."""

    def __init__(self, device: torch.device) -> None:
        """Decode a small picture as a test. RuntimeError: this torchvision or this device has no nvJPEG."""
        warnings.filterwarnings("ignore", "The image decoding and encoding", DeprecationWarning)
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self._decode(encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8)))

    def __call__(self, data: bytes) -> Pixels | None:
        """RGB pixels uint8 (height, width, 3) as stored, or None if nvJPEG cannot decode the file."""
        if not data.endswith(END):  # truncated, or followed by more data: left to Pillow
            return None
        try:
            return self._decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        except RuntimeError:
            return None

    def _decode(self, encoded: torch.Tensor) -> Pixels:
        with torch.cuda.stream(self._stream):  # the inference stream would wait for its batch
            pixels = decode_jpeg(encoded, ImageReadMode.RGB, self._device)
            shown: Pixels = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        return shown
