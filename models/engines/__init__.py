"""Engines: the two static parts of a detector behind one protocol, each engine a file."""

from models.engines.choice import EngineChoice, EngineUnavailable, build_engine, build_engines, choose_device

__all__ = ["EngineChoice", "EngineUnavailable", "build_engine", "build_engines", "choose_device"]
