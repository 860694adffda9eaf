"""mmdetection's configuration: Python text, of which only literals and `dict(…)` are evaluated."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.errors import CheckpointError

MAX_BASES = 16  # files that build on one another
MAX_TEXT = 4 << 20  # characters
DELETE = "_delete_"


@dataclass(frozen=True)
class Config:
    """Its values; `get` reads dotted keys, as in "model.backbone.depth"."""

    values: Mapping[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key, the default if it or a table above is missing."""
        found: Any = self.values
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return default
            found = found[part]
        return default if found is None else found

    def pipeline_step(self, name: str) -> Mapping[str, Any]:
        """The step of that type in the test pipeline, wherever it is nested; empty if there is none."""
        pipeline = self.get("test_pipeline") or self.get("data.test.pipeline") or ()
        return next((step for step in _steps(pipeline) if step.get("type") == name), {})


def _steps(pipeline: Any) -> list[Mapping[str, Any]]:
    found = []
    for step in pipeline if isinstance(pipeline, list | tuple) else ():
        if isinstance(step, Mapping):
            found += [step, *_steps(step.get("transforms"))]
    return found


def parse_config(text: str) -> Config:
    """The configuration in the text of a checkpoint; raises CheckpointError."""
    return Config(_evaluate(text, None, MAX_BASES))


def read_config(path: Path) -> Config:
    """A config.py with the files it builds on; raises CheckpointError."""
    return Config(_read(path, MAX_BASES))


def _read(path: Path, bases: int) -> dict[str, Any]:
    try:
        return _evaluate(path.read_text(encoding="utf-8"), path, bases)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable config.py of mmdetection: {error}") from error


def _evaluate(text: str, path: Path | None, bases: int) -> dict[str, Any]:
    """The values that the text assigns, merged into those of its `_base_`; nothing in it is run."""
    where = path or "the configuration in the checkpoint"
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"it is longer than {MAX_TEXT} characters")
        values = _assigned(ast.parse(text))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{where}: not a configuration of mmdetection: {error}") from error
    base = values.pop("_base_", None)
    if not base:
        return values
    if path is None or bases == 0:
        raise CheckpointError(
            f"{where}: its _base_ cannot be followed; give the run's own config.py with --config"
        )
    merged: dict[str, Any] = {}
    for name in [base] if isinstance(base, str) else base:
        merged = {**merged, **_read(path.parent / str(name), bases - 1)}
    return _merged(merged, values)


def _assigned(module: ast.Module) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for statement in module.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            values[statement.targets[0].id] = _value(statement.value, values)
    return values


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """A literal, a `dict(…)` of literals, or an earlier name; None for anything that would be computed."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {word.arg: _value(word.value, names) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value, names) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.List):
        return [_value(item, names) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, names) for item in node.elts)
    if isinstance(node, ast.Name):
        return names.get(node.id)
    try:
        return ast.literal_eval(node)  # numbers with a sign, texts
    except ValueError:
        return None


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    if values.get(DELETE):
        return {key: value for key, value in values.items() if key != DELETE}
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both and below is not None else value
    return merged
