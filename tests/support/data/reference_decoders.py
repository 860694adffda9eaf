"""Two decoders that share no code with ours but the formats' own libraries: OpenCV and libvips.

Both give the samples of a file. How they are shown is one rule for all: on white, whole numbers of 8 and 16
bits by their range, other numbers stretched between their extremes, inks without a profile.
"""

import cv2
import numpy as np
import pyvips

Pixels = np.ndarray

cv2.utils.logging.setLogLevel(0)  # it writes to stderr what it cannot read


def opencv(data: bytes, opaque: bool = False) -> Pixels | None:
    """RGB by OpenCV, None if it does not read the file. With an opacity it turns no picture."""
    content = np.frombuffer(data, np.uint8)
    stored = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if stored is None:
        return None
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    stored = stored.reshape(*stored.shape[:2], channels)
    if channels > 2:
        stored = stored[:, :, [2, 1, 0, *range(3, channels)]]
    turned = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if channels == 3 and stored.dtype == np.uint8 and turned is not None:
        stored = turned[:, :, ::-1]
    return shown(stored, channels in (2, 4), opaque)


def libvips(data: bytes, opaque: bool = False) -> Pixels | None:
    """RGB by libvips, None if it does not read the file."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="error").autorot()
        samples = image.numpy().reshape(image.height, image.width, -1)
        inks = image.interpretation == "cmyk"
        return shown(samples, image.bands in (5, 6) if inks else image.hasalpha(), opaque, inks)
    except pyvips.Error:
        return None


@np.errstate(all="ignore")  # OpenCV leaves memory as it was where it does not read planes in tiles
def shown(samples: Pixels, alpha: bool, opaque: bool, inks: bool = False) -> Pixels:
    """Samples (rows, columns, channels) as RGB on white; `opaque`: the last one is none, by its format."""
    ranged = samples.dtype in (np.uint8, np.uint16)
    whole = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1.0
    colours = samples[:, :, : samples.shape[2] - alpha].astype(np.float64)
    least, greatest = (0.0, whole) if ranged else (np.nanmin(colours), np.nanmax(colours))
    levels = (colours - least) * (255.0 / (greatest - least))
    if inks:
        levels = (255.0 - levels[:, :, :3]) * (255.0 - levels[:, :, 3:4]) / 255.0
    if alpha and not opaque:
        opacity = samples[:, :, -1:].astype(np.float64) / whole
        levels = levels * opacity + 255.0 * (1.0 - opacity)
    return np.rint(
        np.broadcast_to(levels, (*levels.shape[:2], 3)) if levels.shape[2] == 1 else levels[:, :, :3]
    )


REFERENCES = {"OpenCV": opencv, "libvips": libvips}
