"""Writes the options of a detection, as the client and `rcnn detect` take them, from app.schemas.options.

A field of DetectOptions is the one place where an option is declared: run `make options` after a change.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.schemas.options import DetectOptions, ModelOptions

ROOT = Path(__file__).parents[3]
CLIENT_FILE = ROOT / "client" / "rcnn_client" / "options.py"
COMMAND_FILE = ROOT / "app" / "commands" / "detect" / "request_options.py"

NOT_IN_CLIENT = {"box_format", "normalized"}  # a Result has corners in pixels
# What only matters where several share a service, and what the command line never had.
NOT_IN_COMMAND = {*NOT_IN_CLIENT, "timeout_ms", "priority", "class_agnostic"}

MODEL = str(ModelOptions.model_fields["model"].description).partition(" POST /detect ")[0]

HEADER = '"""{title}: written by `make options` from app.schemas.options, not by hand."""\n\n'
METAVARS = {"classes": "NAME,...", "roi": "X1,Y1,X2,Y2"}
TYPES = {"number": "float", "integer": "int", "boolean": "bool", "string": "str"}
WIDTH = 110

Schema = Mapping[str, Any]


def files() -> dict[Path, str]:
    """The two files and their text."""
    fields = DetectOptions.model_json_schema()["properties"]
    client = {name: field for name, field in fields.items() if name not in NOT_IN_CLIENT}
    client["model"] = {"type": "string", "description": MODEL}  # one: a Result is of one model
    command = {name: field for name, field in fields.items() if name not in NOT_IN_COMMAND}
    return {CLIENT_FILE: _client_file(client), COMMAND_FILE: _command_file(command)}


def _client_file(fields: Mapping[str, Schema]) -> str:
    lines = ["class Options(TypedDict, total=False):"]
    lines += ['    """Options of one detection; one left out, or None, is decided by the service."""', ""]
    for name, field in fields.items():
        items = "str | int" if name == "classes" else "str"
        types = [f"Sequence[{items}]" if _is_list(field) else _type(one) for one in _alternatives(field)]
        lines.append(f"    {name}: {' | '.join([*dict.fromkeys(types), 'None'])}")
        lines += textwrap.wrap(
            f'"""{field["description"]}"""', WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    head = HEADER.format(title="Options of a detection")
    return f"{head}from collections.abc import Sequence\nfrom typing import TypedDict\n\n\n" + _text(lines)


def _command_file(fields: Mapping[str, Schema]) -> str:
    lines = ["@dataclass(frozen=True, kw_only=True)", "class RequestOptions:"]
    lines += [
        '    """Options of the detector; None is decided by the model\'s card."""',
        "",
        "    # fmt: off",
    ]
    for name, field in fields.items():
        lines += _command_option(name, field)
    imports = "from dataclasses import dataclass\nfrom typing import Annotated\n\nfrom typer import Option\n"
    return HEADER.format(title="Options of `rcnn detect`") + imports + "\n\n" + _text(lines)


def _command_option(name: str, field: Schema) -> Iterator[str]:
    alternatives = _alternatives(field)
    first = alternatives[0]
    kind = "list[str]" if _is_list(field) else _type(first) if len(alternatives) == 1 else "str"
    settings = {"min": first.get("minimum"), "max": first.get("maximum")}
    if len(alternatives) > 1:
        settings = {"metavar": "|".join(one.get("const", "N") for one in alternatives)}
    elif _is_list(field):
        settings = {"metavar": METAVARS[name]}
    shown = "".join(f"{key}={json.dumps(value)}, " for key, value in settings.items() if value is not None)
    yield f"    {name}: Annotated[{kind} | None, Option({shown}help="
    parts = textwrap.wrap(field["description"], WIDTH - 20, drop_whitespace=False)
    yield "\n".join(f"        {json.dumps(part, ensure_ascii=False)}" for part in parts) + ")] = None"


def _alternatives(field: Schema) -> list[Schema]:
    """The types that a field may have, but null."""
    flat: list[Schema] = []
    for one in field.get("anyOf", [field]):
        flat += _alternatives(one) if "anyOf" in one else [one]
    return [one for one in flat if one.get("type") != "null"]


def _is_list(field: Schema) -> bool:
    return any(one.get("type") == "array" for one in _alternatives(field))


def _type(schema: Schema) -> str:
    return TYPES[schema["type"]]


def _text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
