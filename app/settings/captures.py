"""The settings of captures: which images are kept for labelling, and for how long. A part of `Settings`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

ALLOWED = "comma-separated score=LOW-HIGH, class=NAME, none, share=FRACTION"


@dataclass(frozen=True)
class CaptureRules:
    """An image is kept if one of these holds.

    `scores`: the score of a detection lies between both; `classes`: one of these was detected; `none`:
    nothing was detected; `share`: this share of all images, 0 to 1.
    """

    scores: tuple[float, float] | None = None
    classes: frozenset[str] = frozenset()
    none: bool = False
    share: float = 0.0


class CaptureSettings(BaseSettings):
    """Where images are kept, and which; `app.settings.settings.Settings` reads and checks them."""

    capture_dir: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a writable folder"},
        description="The folder for captures: images that RCNN_CAPTURE_RULES selects, with their detections, "
        "to label and train on. Without it no image is kept.",
    )
    capture_rules: str = Field(
        default="score=0-0.7,none",
        json_schema_extra={"allowed": ALLOWED},
        description="Which images are kept: those with a detection of a score from LOW to HIGH, with a "
        "class, with no detection, or a share of all; one rule is enough. Detections that the answer leaves "
        "out do not count.",
    )
    capture_max_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        le=1 << 50,
        description="Maximum size of all captures; the oldest are deleted first.",
    )
    capture_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        json_schema_extra={"allowed": "above 0, up to 3650"},
        description="Days after which a capture is deleted.",
    )

    capture_except: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated names of RCNN_API_KEYS_FILE"},
        description="Names of keys whose images are never kept.",
    )

    @field_validator("capture_except", mode="before")
    @classmethod
    def _split_key_names(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("capture_rules")
    @classmethod
    def _check_rules(cls, text: str) -> str:
        parse_rules(text)
        return text


def parse_rules(text: str) -> CaptureRules:
    """The rules in the setting; raises ValueError."""
    scores, classes, none, share = None, set[str](), False, 0.0
    for rule in (part.strip() for part in text.split(",")):
        kind, _, value = (side.strip() for side in rule.partition("="))
        if kind == "score":
            scores = _band(rule, value)
        elif kind == "class" and value:
            classes.add(value)
        elif kind == "share":
            share = _fraction(rule, value)
        elif rule == "none":
            none = True
        else:
            raise ValueError(f"{rule!r} is no rule")
    return CaptureRules(scores, frozenset(classes), none, share)


def _band(rule: str, value: str) -> tuple[float, float]:
    low, _, high = value.partition("-")
    band = _fraction(rule, low), _fraction(rule, high)
    if band[0] > band[1]:
        raise ValueError(f"{rule!r}: the lower score comes first")
    return band


def _fraction(rule: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"{rule!r}: {value!r} is no number from 0 to 1")
    return number
