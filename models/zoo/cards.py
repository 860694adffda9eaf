"""Model cards: a model's architecture, weights and default options. Needs no torch."""

import re
import tomllib
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.zoo.accuracy import Accuracy
from models.zoo.coco_labels import COCO_LABELS
from models.zoo.sections import SECTIONS, Anchors, Fraction, Head, Preprocessing, Rpn

AUTO = "auto"  # the model name for an automatic choice; no card may use it
PUBLISHED = "torchvision:"
FILE = "file:"
RANDOM = "random:"
HTTPS, HTTP, HUB, STORAGE = "https://", "http://", "hf://", "s3://"
REMOTE = {  # where a file may lie, and what its address looks like
    HTTPS: re.compile(r"https://[^/?#@\s]+/[^?\s#][^\s#]*"),
    HTTP: re.compile(r"http://[^/?#@\s]+/[^?\s#][^\s#]*"),
    HUB: re.compile(r"hf://[\w.-]+/[\w.-]+(@[\w.-]+)?(/[^/\s]+)+"),
    STORAGE: re.compile(r"s3://[\w.-]+(/[^/\s]+)+"),
}
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".pkl", ".tar")
UNUSED_LABEL = "N/A"


class CardError(ValueError):
    """A card that cannot be read or used; the text names the file, the key and what is allowed."""


class Card(BaseModel):
    """One model: architecture, weights, label names (index = label id) and defaults; sizes in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
    architecture: Annotated[str, Field(min_length=1, max_length=64)]
    weights: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    score_threshold: Fraction = 0.5
    nms_threshold: Fraction = 0.5
    max_detections: Annotated[int, Field(ge=1, le=1000)] = 100
    min_size: Annotated[int, Field(ge=64, le=8192)] = 800
    max_size: Annotated[int, Field(le=8192)] = 1333
    preprocessing: Preprocessing = Preprocessing()
    anchors: Anchors = Anchors()
    rpn: Rpn = Rpn()
    head: Head = Head()
    training: dict[str, Any] | None = None
    accuracy: Accuracy | None = None  # what `rcnn evaluate --record` and `rcnn quantize` measured
    int8: dict[str, Any] | None = None  # how `rcnn quantize` made the artefact
    path: Path | None = Field(default=None, exclude=True)

    @property
    def published_weights(self) -> str | None:
        """The torchvision weights the card names, as "Enum.MEMBER"; None for a file."""
        return self.weights.removeprefix(PUBLISHED) if self.weights.startswith(PUBLISHED) else None

    @property
    def random_seed(self) -> int | None:
        """The seed of an untrained network's weights; None for trained weights."""
        return int(self.weights.removeprefix(RANDOM)) if self.weights.startswith(RANDOM) else None

    @property
    def remote_weights(self) -> str | None:
        """The address of weights on the web, the Hugging Face hub or S3; None for others."""
        return self.weights if self.weights.startswith(tuple(REMOTE)) else None

    @property
    def public_weights(self) -> str:
        """`weights` without the query of an address, which may be a secret, as of a presigned one."""
        return self.weights.partition("?")[0]

    @property
    def weights_file(self) -> Path | None:
        """The path of a "file:" card's weights; None for others."""
        if not self.weights.startswith(FILE):
            return None
        folder = Path() if self.path is None else self.path.parent
        return folder / self.weights.removeprefix(FILE)

    @property
    def recorded_accuracy(self) -> Accuracy | None:
        """The AP in each precision; cards of earlier releases have that of int8 in [int8]."""
        return self.accuracy or Accuracy.of_int8(self.int8 or {})

    @property
    def sections_are_default(self) -> bool:
        """Whether the sections say nothing else than torchvision's ways and the architecture's numbers."""
        return all(getattr(self, name) == section() for name, section in SECTIONS.items())

    def canvas_limits(self, size: int | None = None) -> tuple[int, int]:
        """Limits of the canvas's short and long side; `size` replaces the short side and scales the other."""
        short = size or self.min_size
        return short, round(self.max_size * short / self.min_size)

    def draft_limits(self, size: int | None = None) -> tuple[int, int] | None:
        """As `canvas_limits`, for a JPEG that may be decoded smaller; None if its resize needs all pixels."""
        return self.canvas_limits(size) if self.preprocessing.resize == "torch" else None

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name == AUTO:
            raise ValueError(f"{AUTO!r} is reserved for the automatic choice; give the model another name")
        return name

    @field_validator("weights")
    @classmethod
    def _weights_are_reachable(cls, weights: str) -> str:
        if weights.startswith(FILE):
            _check_file(weights.removeprefix(FILE))
        elif weights.startswith(RANDOM):
            if not re.fullmatch(r"[0-9]{1,9}", weights.removeprefix(RANDOM)):
                raise ValueError(f'must be "{RANDOM}SEED" with a whole number, as in "{RANDOM}1"')
        elif weights.startswith(tuple(REMOTE)):
            _check_address(weights)
        elif not weights.startswith(PUBLISHED) or weights.count(".") != 1:
            raise ValueError(
                f'must be "{FILE}NAME", "{HTTPS}HOST/PATH", "{HUB}OWNER/REPO/FILE", "{STORAGE}BUCKET/KEY", '
                f'"{PUBLISHED}ENUM.MEMBER", as in "{PUBLISHED}FasterRCNN_ResNet50_FPN_Weights.COCO_V1", '
                f'or "{RANDOM}SEED"'
            )
        return weights

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_tuple(cls, labels: object) -> object:
        if labels == "coco":
            return COCO_LABELS
        if isinstance(labels, str):
            raise ValueError('must be a list of names, or "coco" for torchvision\'s COCO names')
        if isinstance(labels, list) and labels[:1] == ["__background__"]:
            labels = ["background", *labels[1:]]
        return tuple(labels) if isinstance(labels, list) else labels

    @field_validator("labels")
    @classmethod
    def _labels_are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels[0] != "background":
            raise ValueError('the first label must be "background", as a Faster R-CNN reserves id 0 for it')
        if any(not label.strip() for label in labels):
            raise ValueError(f'a label may not be empty; write "{UNUSED_LABEL}" for an id that is not used')
        twice = [label for label, count in Counter(labels).items() if count > 1 and label != UNUSED_LABEL]
        if twice:
            raise ValueError(
                f"labels other than {UNUSED_LABEL!r} must be unique; repeated: {', '.join(twice)}"
            )
        return labels

    @model_validator(mode="after")
    def _sizes_are_ordered(self) -> Self:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size ({self.max_size}) must be at least min_size ({self.min_size})")
        return self

    @model_validator(mode="after")
    def _plain_http_has_a_hash(self) -> Self:
        if self.weights.startswith(HTTP) and self.sha256 is None:
            raise ValueError(
                f'weights over "{HTTP}" can be changed on the way: give their sha256 too, or use "{HTTPS}"'
            )
        return self


# `path` is where the card was found, so it is not a key.
CARD_KEYS = tuple(key for key in Card.model_fields if key != "path")


def read_card(path: Path) -> Card:
    """Read one TOML card; raises CardError."""
    values = _read_toml(path)
    unknown = [key for key in values if key not in CARD_KEYS]
    if unknown:
        raise CardError(f"{path}: unknown key {', '.join(unknown)}; a card may have {', '.join(CARD_KEYS)}")
    try:
        # absolute, not resolved: weights lie beside the card, even if it is a symbolic link.
        return Card.model_validate({**values, "path": path.absolute()})
    except ValidationError as error:
        raise CardError(f"{path}: {_explain(error)}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CardError(f"{path}: the card cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CardError(f"{path}: not UTF-8 text; save the card as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{path}: not valid TOML: {error}") from error


def _explain(error: ValidationError) -> str:
    """List the faults as "key: what is allowed, got value"."""
    faults = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        text = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            faults.append(f"{key}: this key is required")
        elif not key:
            faults.append(text)
        else:
            faults.append(f"{key}: {text}, got {_short(fault['input'])}")
    return "; ".join(faults)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_file(name: str) -> None:
    """Reject names that leave the card's folder: an untrusted card must not read other files."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    leaves = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if leaves or "\0" in name:
        raise ValueError(
            f"a {FILE!r} name is relative to the card and may not leave its folder; "
            "put the weights beside the card"
        )
    if posix.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"a weights file must end in one of: {', '.join(WEIGHT_SUFFIXES)}")


def _check_address(address: str) -> None:
    scheme = next(scheme for scheme in REMOTE if address.startswith(scheme))
    if "@" in address.split("/")[2] and scheme in (HTTP, HTTPS):
        raise ValueError("an address may not hold a user or password, as others read the card; leave it out")
    if not REMOTE[scheme].fullmatch(address) or "/../" in f"{address.partition('?')[0]}/":
        form = {HUB: "OWNER/REPO[@REVISION]/FILE", STORAGE: "BUCKET/KEY"}.get(scheme, "HOST/PATH")
        raise ValueError(f'must be "{scheme}{form}"')
