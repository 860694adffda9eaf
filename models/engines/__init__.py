"""Engines: run a detector's two static parts behind one protocol; one file per engine."""

from models.engines.choice import (
    EngineChoice,
    EngineUnavailable,
    build_engine,
    build_engines,
    check_choice,
    choose_device,
    fallback_reason,
)

__all__ = [
    "EngineChoice",
    "EngineUnavailable",
    "build_engine",
    "build_engines",
    "check_choice",
    "choose_device",
    "fallback_reason",
]
