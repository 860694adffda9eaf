"""Files made of one unit of a format's grammar: fill, stuffing, chunks, blocks, tags, boxes, metadata.

`UNITS` maps "FORMAT unit" to a function that takes a size and makes a file of about that many bytes. The rest
of each file is an ordinary image of 64 x 48 pixels, so that the unit alone costs.
"""

from tests.support.data.units.avif import AVIF_UNITS
from tests.support.data.units.bmp import BMP_UNITS
from tests.support.data.units.common import Make
from tests.support.data.units.gif import gif_units
from tests.support.data.units.heif import HEIF_UNITS, RAW_UNITS
from tests.support.data.units.jpeg import jpeg_units
from tests.support.data.units.png import png_units
from tests.support.data.units.tiff import TIFF_UNITS
from tests.support.data.units.webp import WEBP_UNITS

_BY_FORMAT: dict[str, dict[str, Make]] = {
    "JPEG": jpeg_units(),
    "PNG": png_units(),
    "GIF": gif_units(),
    "WEBP": WEBP_UNITS,
    "BMP": BMP_UNITS,
    "TIFF": TIFF_UNITS,
    "AVIF": AVIF_UNITS,
    "HEIF": HEIF_UNITS,
    "RAW": RAW_UNITS,
}
UNITS = {f"{format} {name}": make for format, units in _BY_FORMAT.items() for name, make in units.items()}
