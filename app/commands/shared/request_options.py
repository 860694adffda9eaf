"""Options of a detection that were typed, checked as the service checks them."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.commands import USAGE, CommandFailed
from app.schemas.options import DetectOptions


def check_options(typed: Mapping[str, Any]) -> DetectOptions:
    """The options that were typed, those that are not None; raises CommandFailed."""
    try:
        return DetectOptions(**{name: value for name, value in typed.items() if value is not None})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["ctx"]["faults"][0]
        option = str(fault["loc"][0]).replace("_", "-")
        message = fault["msg"].removeprefix("Value error, ")
        raise CommandFailed(f"--{option} {fault['input']}: {message}", USAGE) from error
