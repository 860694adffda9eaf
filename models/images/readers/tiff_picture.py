"""A TIFF of every kind of samples as a Pillow picture: what Pillow has a right mode for is left to it.

Numbers of 8 and 16 bits without sign keep their range. All others, signed, wide and floating-point ones, have
no white of their own: they are stretched between the least and the greatest, without GDAL's NoData.
"""

from io import BytesIO
from typing import Any

from PIL import Image as pillow
from PIL.TiffImagePlugin import OPEN_INFO, ImageFileDirectory_v2, TiffImageFile

from models.images.readers.tiff_levels import Meaning, rgb_of
from models.images.readers.tiff_samples import PACKED, Layout, UnknownSamples, layout_of, read_samples

_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 258, 259, 262, 266
_PER_PIXEL, _PLANAR, _EXTRA, _FORMAT, _NO_DATA = 277, 284, 338, 339, 42113
_INKS = 5
_COLOURS = {0: 1, 1: 1, 2: 3, _INKS: 4}  # samples of a colour in each photometric interpretation
_LAB = frozenset({8, 9, 10})
_UNSIGNED, _UNDEFINED = 1, 4  # values of SampleFormat
_SEPARATE = 2
_MULTIPLIED, _OPACITIES = 1, frozenset({1, 2})  # values of ExtraSamples
_SAMPLE_COPIES = 3  # of the samples, while they are read


class TiffPicture(TiffImageFile):
    """Pillow's reader of TIFF, with the samples that it reads wrongly or not at all."""

    _layout: Layout | None = None
    _meaning: Meaning

    @property
    def bytes_beside(self) -> int:
        """Bytes a pixel that loading takes beside the picture."""
        layout = self._layout
        return _SAMPLE_COPIES * layout.samples * layout.type.itemsize if layout else 0

    def _setup(self) -> None:
        self._layout = None
        if _is_for_pillow(self.tag_v2):
            super()._setup()
            return
        if self.tag_v2.get(_PHOTOMETRIC) in _LAB:
            raise UnknownSamples("Lab colours, which every decoder shows in another way")
        self._layout = layout_of(self.tag_v2)
        self._meaning = _meaning_of(self.tag_v2, self._layout)
        self._size = self._tile_size = self._layout.size
        self._mode, self.tile, self.palette = "RGB", [], None
        self._im = None

    def load(self) -> Any:
        """Load the samples, once."""
        if self._layout is not None and self._im is None and isinstance(self.fp, BytesIO):
            samples = read_samples(self.fp.getvalue(), self.tag_v2, self._layout)
            self.im = pillow.fromarray(rgb_of(samples, self._meaning)).im
            self.load_end()
        return super().load()


def _is_for_pillow(tags: ImageFileDirectory_v2) -> bool:
    """Whether Pillow reads the page rightly, or has the reason why not."""
    bits, formats = tuple(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (_UNSIGNED,)))
    if not formats <= {_UNSIGNED, _UNDEFINED} or tags.get(_PHOTOMETRIC) in _LAB or max(bits) > 16:
        return False
    planes = tags.get(_PLANAR) == _SEPARATE and tags.get(_PER_PIXEL, 1) > 1
    if planes and max(bits) >= 8 and tags.get(_COMPRESSION, 1) in PACKED:
        return False
    photometric, fill, extras = (
        tags.get(_PHOTOMETRIC, 0),
        tags.get(_FILL_ORDER, 1),
        tuple(tags.get(_EXTRA, ())),
    )
    every = bits * int(tags.get(_PER_PIXEL, 1)) if len(bits) == 1 else bits
    known = (tags.prefix, photometric, (_UNSIGNED,), fill, every, extras) in OPEN_INFO
    return known or photometric not in _COLOURS or max(bits) < 8


def _meaning_of(tags: ImageFileDirectory_v2, layout: Layout) -> Meaning:
    """What the samples of a pixel are. Raises UnknownSamples where decoders do not agree on it."""
    photometric, bits = int(tags.get(_PHOTOMETRIC, 0)), 8 * layout.type.itemsize
    colours, ranged = _COLOURS.get(photometric, 0), layout.type.kind == "u" and bits <= 16
    rest = layout.samples - colours
    if not colours or rest < 0 or (colours == 1 and rest > 1):
        raise UnknownSamples(
            f"{layout.samples} samples a pixel that are no colours by its photometric interpretation "
            f"{photometric}"
        )
    extras = tuple(tags.get(_EXTRA, ()))[:rest]
    place = next((place for place, extra in enumerate(extras) if extra in _OPACITIES), None)
    multiplied = place is not None and extras[place] == _MULTIPLIED
    doubts = {
        "a white of 0 in signed or floating-point numbers": photometric == 0 and layout.type.kind != "u",
        "inks that are no whole numbers of 8 or 16 bits": photometric == _INKS and not ranged,
        "colours multiplied with their opacity that are no whole numbers of 8 or 16 bits": multiplied
        and not ranged,
        "an opacity in signed numbers": place is not None and layout.type.kind == "i",
        "samples beside its colours in numbers of 64 bits": rest > 0 and bits > 32,
    }
    if doubt := next((name for name, holds in doubts.items() if holds), None):
        raise UnknownSamples(f"{doubt}, which decoders show in different ways")
    opacity = None if place is None else colours + place
    return Meaning(colours, photometric == 0, opacity, multiplied, ranged, _no_data(tags))


def _no_data(tags: ImageFileDirectory_v2) -> float | None:
    """The value of GDAL that says that there is no value."""
    try:
        return float(str(tags.get(_NO_DATA, "")).strip(" \0"))
    except ValueError:
        return None
