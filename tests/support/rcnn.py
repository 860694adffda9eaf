"""Calls `rcnn` in this process."""

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from app import cli

# The program in a process of its own.
RCNN = (sys.executable, "-c", "from app.cli import main; main()")


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def rcnn(*arguments: object, stdin: bytes = b"", **settings: object) -> Ran:
    """Call `rcnn` with these arguments, and only these settings in its environment."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RCNN_")]:
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(f"RCNN_{name}".upper(), str(value))
        patch.setattr(sys, "argv", ["rcnn", *(str(argument) for argument in arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())
