"""Engines: run a detector's two static parts behind one protocol; one file per engine."""

from models.engines.choice import (
    BuiltEngine,
    build_engine,
    build_engines,
    check_choice,
    choose_device,
    fallback_reason,
)
from models.engines.names import EngineChoice, EngineUnavailable, precisions_of
from models.engines.protocol import PrecisionOverflow

__all__ = [
    "BuiltEngine",
    "EngineChoice",
    "EngineUnavailable",
    "PrecisionOverflow",
    "build_engine",
    "build_engines",
    "check_choice",
    "choose_device",
    "fallback_reason",
    "precisions_of",
]
