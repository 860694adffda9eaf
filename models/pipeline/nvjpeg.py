"""nvJPEG through torchvision: what `models.images.decoder.decode` may ask for the pixels of an ordinary JPEG.

It is off unless the setting asks for it: its pixels are not Pillow's (it interpolates the colours otherwise),
so that answers would differ between a GPU and a CPU, and from the data that a network was trained on; by how
much has not been measured. The header, the limits and the orientation stay with the one decoder, and so does
every file that nvJPEG will not have. The pixels come back to the host, as an image is what it is everywhere.
"""

import warnings

import torch
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from models.images.decoder import Pixels

END = b"\xff\xd9"  # the marker with which a whole JPEG ends


class NvJpeg:
    """Decodes JPEGs on a CUDA device, from any thread."""

    def __init__(self, device: torch.device) -> None:
        """Try it on a small picture. RuntimeError: this torchvision or this device has no nvJPEG."""
        warnings.filterwarnings("ignore", "The image decoding and encoding", DeprecationWarning)
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it
        self._decode(encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8)))

    def __call__(self, data: bytes) -> Pixels | None:
        """RGB pixels uint8 (height, width, 3) as stored, or None where nvJPEG will not have the file."""
        if not data.endswith(END):  # cut short, or with more behind the picture: Pillow's to judge
            return None
        try:
            return self._decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        except RuntimeError:
            return None

    def _decode(self, encoded: torch.Tensor) -> Pixels:
        with torch.cuda.stream(self._stream):  # not the stream that computes: this would wait for its batch
            pixels = decode_jpeg(encoded, ImageReadMode.RGB, self._device)
            shown: Pixels = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        return shown
