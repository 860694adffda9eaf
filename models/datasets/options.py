"""Options of reading: how boxes and rotated images are understood, which classes are used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

BoxOption = Literal["xywh", "xyxy", "normalized"]
ExifOption = Literal["apply", "ignore"]
BoxOrder = Literal["xywh", "xyxy", "cxcywh"]  # of the four numbers of a box

VAL_FRACTION = 0.1


@dataclass(frozen=True)
class ReadOptions:
    """Options of read_dataset; None leaves the choice to the reader.

    boxes: xywh and xyxy give the order of the numbers; normalized: they are fractions of the image's size.
    exif: apply: boxes are of the image as displayed; ignore: of its stored pixels.
    classes: the only ones to use, in this order. rename: "old=new" each; several may have the same new name.
    val_fraction: share of the images for validation where the dataset is not split.
    cache_dir: where archives are unpacked; None: a folder for temporary files.
    """

    boxes: BoxOption | None = None
    exif: ExifOption | None = None
    classes: tuple[str, ...] = ()
    rename: tuple[str, ...] = ()
    val_fraction: float = VAL_FRACTION
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        for option, value, allowed in (
            ("boxes", self.boxes, get_args(BoxOption)),
            ("exif", self.exif, get_args(ExifOption)),
        ):
            if value is not None and value not in allowed:
                raise ValueError(f"--{option} is {value!r}; allowed are {', '.join(allowed)}")
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction is {self.val_fraction}; it must be between 0 and 1")
        for pair in self.rename:
            old, equals, new = pair.partition("=")
            if not (old.strip() and equals and new.strip()):
                raise ValueError(f"--rename {pair!r} has no old and new name; write --rename old=new")

    @property
    def renamed(self) -> dict[str, str]:
        """The new name of each old one."""
        pairs = (pair.partition("=") for pair in self.rename)
        return {old.strip(): new.strip() for old, _, new in pairs}


DEFAULTS = ReadOptions()
