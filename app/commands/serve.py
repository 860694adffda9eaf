"""`rcnn serve`: the service, until a signal stops it."""

from dataclasses import asdict

from app.commands.arguments import ServeArguments
from app.commands.shared.console import read_settings
from app.server import serve


def run(arguments: ServeArguments) -> int:
    """Serve until a signal; the exit code."""
    return serve(read_settings(**asdict(arguments)))
