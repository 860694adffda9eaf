"""A service that a command uses. rcnn-client is imported when it is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.commands import USAGE, CommandFailed
from app.commands.shared.console import print_warnings

if TYPE_CHECKING:
    from rcnn_client import Client

RETRIES = 10  # of a request that a busy service puts off


@contextmanager
def open_service(url: str, api_key: str | None, option: str = "--url") -> Iterator["Client"]:
    """A client of the service at `url`, which `option` gave.

    Raises CommandFailed, for every ClientError in the block too.
    """
    try:
        from rcnn_client import Client, ClientError
    except ImportError as error:
        raise CommandFailed(
            f"{option} needs {error.name}, which is missing; install rcnn-client from a clone of rcnn-serve: "
            "pip install ./client"
        ) from error
    try:
        client = Client(url, api_key=api_key, retries=RETRIES)
    except ValueError as error:
        raise CommandFailed(f"{option}: {error}", USAGE) from error
    with client:
        try:
            yield client
        except ClientError as error:
            raise CommandFailed(error) from error


def check_reachable(client: "Client") -> None:
    """Raise Unreachable where there is no service: retries do not help against a wrong address.

    Says so where the demo model of the service would detect.
    """
    from rcnn_client import ClientError, Unreachable

    try:
        health = client.get("health")
    except Unreachable:
        raise
    except ClientError:
        return  # there is a server; the first image shows whether it is the right one
    if isinstance(health, dict) and health.get("hint"):
        print_warnings([f"{health['model']}: {health['hint']}"])
