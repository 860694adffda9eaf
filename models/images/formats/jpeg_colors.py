"""What the four components of a JPEG are without Adobe's marker: CMYK, or YCCK, which no decoder sees."""

from models.images.formats.errors import HeaderError

_INKS = 4  # components
_FIRST, _STEP = 10, 3  # where a frame's first component begins, and its bytes: id, sampling, table


def check_inks(frame: bytes, has_adobe: bool) -> None:
    """Reject YCCK without Adobe's marker, which every decoder takes for CMYK and shows in false colours.

    An encoder samples and quantises the four inks alike, but chroma more coarsely than luma and black.
    """
    if has_adobe or frame[_FIRST - 1 : _FIRST] != bytes((_INKS,)):
        return
    luma, chroma = (frame[at + 1 : at + _STEP] for at in (_FIRST, _FIRST + _STEP))
    if luma != chroma:
        raise HeaderError("colours in YCCK without the marker of Adobe that says so (APP14), false elsewhere")
