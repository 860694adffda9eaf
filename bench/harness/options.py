"""The command lines of the benchmarks: the docstring as help, and figures in a file with --json."""

import argparse
import json
from pathlib import Path


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints the description as it is written, and knows --json."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=kind)
    parser.add_argument("--json", type=Path, help="write the figures, with machine and versions, to a file")
    return parser


def write_json(path: Path | None, everything: object) -> None:
    """The figures in a file, if one was asked for."""
    if path:
        path.write_text(json.dumps(everything, indent=2) + "\n")
