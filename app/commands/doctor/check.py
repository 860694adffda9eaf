"""What one check found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """A check by its name, what was found, and what to do about it; `failed`: the service cannot start."""

    name: str
    state: State
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Check:
    """Nothing is to be done."""
    return Check(name, "ok", text)


def warning(name: str, text: str, advice: str) -> Check:
    """The service starts, but not as its user may expect."""
    return Check(name, "warning", text, advice)


def failed(name: str, text: object, advice: str = "") -> Check:
    """The service cannot start; many errors say themselves what to do."""
    return Check(name, "failed", str(text), advice)
