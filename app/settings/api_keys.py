"""The keys of the server: those of RCNN_API_KEYS, and those of a file that may change while it serves."""

import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from app.settings.access import KeySettings
from app.settings.key_file import read_key_file

LOOK_SECONDS = 1.0  # between two looks at the file
Signature = tuple[int, int, int]
logger = logging.getLogger(__name__)


class Secret(Protocol):
    """A key as the settings hold it."""

    def get_secret_value(self) -> str: ...


class ApiKeys:
    """Looks for an offered key; reads the file again when it has changed.

    A file that cannot be read then changes nothing: the log says so, and the keys of before stay.
    """

    def __init__(self, settings: KeySettings) -> None:
        self._file = settings.api_keys_file
        self._fixed = encoded(settings.api_keys)
        self._admin = encoded(settings.admin_keys)
        self._keys = self._fixed
        self._seen: Signature | None = None
        self._next_look = 0.0

    @property
    def required(self) -> bool:
        """Whether a request must show a key."""
        return self._file is not None or bool(self._fixed)

    def name_of(self, offered: Sequence[str]) -> str | None:
        """The name of the key among those offered, "" for one without a name, None where none is a key."""
        if self._file is not None and time.monotonic() >= self._next_look:
            self._look(self._file)
        return find_key(self._keys, offered)

    def _look(self, path: Path) -> None:
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            status = path.stat()
            signature = status.st_mtime_ns, status.st_size, status.st_ino
            if signature == self._seen:
                return
            self._seen = signature
            keys = {key.encode(): name for key, name in read_key_file(path).items()}
        except (OSError, ValueError) as error:
            logger.error("RCNN_API_KEYS_FILE: %s; the keys of before stay", error)
            return
        if self._admin.keys() & keys:
            logger.error("RCNN_API_KEYS_FILE: a key is in RCNN_ADMIN_KEYS too; the keys of before stay")
            return
        self._keys = keys | self._fixed
        logger.info("RCNN_API_KEYS_FILE: %d keys", len(keys))


def encoded(keys: Sequence[Secret]) -> dict[bytes, str]:
    """Keys without names."""
    return {key.get_secret_value().encode(): "" for key in keys}


def find_key(keys: Mapping[bytes, str], offered: Sequence[str]) -> str | None:
    """The name of the offered key, None where none is a key; all are compared, each in constant time."""
    candidates = [text.encode("utf-8", "surrogatepass") for text in offered]
    found = None
    for key, name in keys.items():
        for candidate in candidates:
            if hmac.compare_digest(key, candidate):
                found = name
    return found
