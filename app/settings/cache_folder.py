"""The folder for fetched weights where RCNN_CACHE_DIR is not set: in the home folder, or a temporary one."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

DEFAULT = Path("~/.cache/rcnn-serve")


def take_cache_folder(values: dict[str, Any]) -> list[str]:
    """Take a temporary folder where the default one cannot be used; a warning that says why.

    Users of a service often have no home, or one that is read-only: that is no reason not to start.
    """
    if "cache_dir" in values or (reason := _why_unusable()) is None:
        return []
    values["cache_dir"] = folder = _temporary()
    return [
        f"fetched weights go to {folder}, as {reason}: set RCNN_CACHE_DIR to a folder that is kept and can "
        "be written"
    ]


def _why_unusable() -> str | None:
    try:
        folder = DEFAULT.expanduser()
    except RuntimeError:
        return "this user has no home folder"
    return why_unwritable(folder)


def why_unwritable(folder: Path) -> str | None:
    """Why files cannot be written into a folder, which may not exist yet; None where they can."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        return f"{existing} is no folder"
    return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written"


def _temporary() -> Path:
    """The same folder at each start, so that weights are fetched once; its owner is this user alone."""
    folder = Path(tempfile.gettempdir(), f"rcnn-serve-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return folder  # what needs it says so
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if private else Path(tempfile.mkdtemp(prefix="rcnn-serve-"))
