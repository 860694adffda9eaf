"""`rcnn doctor`: what of this machine fits, and what to do about the rest. Asks no other machine."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.text import Text

from app import version
from app.commands import CommandFailed
from app.commands.doctor.check import Check, failed, ok, warning
from app.commands.doctor.machine import check_devices, check_python, check_torch
from app.commands.doctor.service import check_cache, check_ports, check_proxy
from app.commands.doctor.weights import check_models
from app.commands.overview_arguments import DoctorArguments
from app.commands.shared.console import open_console, plain_table, read_settings
from app.settings.settings import Settings

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def run(arguments: DoctorArguments) -> int:
    """Check and print; the exit code is 1 where the service could not start."""
    checks = list(_checks())
    starts = all(check.state != "failed" for check in checks)
    if arguments.json:
        document = {"version": version(), "starts": starts, "checks": [asdict(check) for check in checks]}
        print(json.dumps(document, indent=2))
    else:
        _print(checks, starts)
    return 0 if starts else 1


def _checks() -> Iterator[Check]:
    yield check_python()
    yield (torch := check_torch())
    try:
        settings = read_settings()
    except CommandFailed as error:
        yield failed("settings", error, "`rcnn settings` lists them all")
        yield check_proxy()
        return
    yield from _check_settings(settings)
    if torch.state == "ok":
        yield from check_devices(settings)
        yield from check_models(settings)
    yield check_cache(settings)
    yield from check_ports(settings)
    yield check_proxy()


def _check_settings(settings: Settings) -> Iterator[Check]:
    given = sorted(f"RCNN_{name.upper()}" for name in settings.model_fields_set)
    yield ok("settings", ", ".join(given) if given else "all at their defaults")
    for text in settings.warnings:
        yield warning("settings", text, "")


def _print(checks: list[Check], starts: bool) -> None:
    table = plain_table("", "", "")
    for check in checks:
        lines = [check.text, *([f"→ {check.advice}"] if check.advice else [])]
        state = Text(check.state, STYLES[check.state])
        table.add_row(state, Text(check.name, "bold"), Text("\n".join(lines)))
    table.show_header = False
    out = open_console()
    out.print(table)
    bad = [check.name for check in checks if check.state == "failed"]
    out.print(Text("\nThe service can start" if starts else f"\nThe service cannot start: {', '.join(bad)}"))
