"""Triton's system shared memory: tensors of clients on this machine, in files below /dev/shm that they name.

A file is read anew for each request, never mapped: a client that cut it short would end the process.
"""

import os
import re
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.errors import BodyTooLarge, Conflict, InvalidParameter, NotFound
from app.protocols.openinference.inference import NO_SHARED_MEMORY
from app.schemas.limits import MAX_NAME, MAX_QUOTED
from app.settings.access import is_loopback

FOLDER = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory is, by its name
MAX_REGIONS = 64
KEY = re.compile(r"/?[\w-][\w.-]{0,254}", re.ASCII)  # a name in that folder
FORWARDED = ("x-forwarded-for", "forwarded")  # then the client is not the one that is connected


@dataclass(frozen=True)
class Region:
    """A part of a file that a client registered under a name."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True)
class Part:
    """The bytes of a region that a request names as its input."""

    region: str
    offset: int
    byte_size: int


class SharedMemory:
    """The registered regions. It holds no file open and no memory."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of a tensor."""
        self._most_bytes = most_bytes
        self._regions: dict[str, Region] = {}

    def register(self, region: Region) -> None:
        """Add a region; raises InvalidParameter where it cannot be read, Conflict where its name is taken."""
        if not 0 < len(region.name) <= MAX_NAME or not KEY.fullmatch(region.key):
            raise InvalidParameter(
                f"key: {region.key[:MAX_QUOTED]!r}; send the name of a file in {FOLDER} without folders, and "
                f"a name of the region of 1 to {MAX_NAME} characters"
            )
        if region.name in self._regions or len(self._regions) >= MAX_REGIONS:
            raise Conflict(
                f"region {region.name[:MAX_QUOTED]!r}: the name is taken, or there are {MAX_REGIONS} regions "
                "already; unregister one first"
            )
        size = _size(region.key)
        if not 0 <= region.offset < region.offset + region.byte_size <= size:
            raise InvalidParameter(
                f"byte_size: {region.byte_size} at offset {region.offset}; the file has {size} bytes"
            )
        self._regions[region.name] = region

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all; nothing to do for one that is not there."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str = "") -> list[Region]:
        """All regions, or that of a name; raises NotFound."""
        return [self._find(name)] if name else list(self._regions.values())

    def size(self, part: Part) -> int:
        """The bytes that `read` takes, to be counted before; raises ServiceError where it would."""
        self._checked(part)
        return part.byte_size

    def read(self, part: Part) -> bytes:
        """A copy of a part as it is now; raises ServiceError."""
        region = self._checked(part)
        with closing(_Opened(region.key)) as file:
            content = os.pread(file.descriptor, part.byte_size, region.offset + part.offset)
        if len(content) != part.byte_size:
            raise InvalidParameter(
                f"region {part.region[:MAX_QUOTED]!r}: its file is shorter now; register it again"
            )
        return content

    def _checked(self, part: Part) -> Region:
        region = self._find(part.region)
        if not 0 <= part.offset < part.offset + part.byte_size <= region.byte_size:
            raise InvalidParameter(
                f"shared_memory_byte_size: {part.byte_size} at offset {part.offset}; the region has "
                f"{region.byte_size} bytes"
            )
        if part.byte_size > self._most_bytes:
            raise BodyTooLarge(f"the tensor has {part.byte_size} bytes, {self._most_bytes} are allowed")
        return region

    def _find(self, name: str) -> Region:
        if (region := self._regions.get(name)) is None:
            raise NotFound(f"no region {name[:MAX_QUOTED]!r} is registered")
        return region


class _Opened:
    """A regular file of the folder, open for reading; raises InvalidParameter."""

    def __init__(self, key: str) -> None:
        try:  # not through a link, and without waiting for the writer of a pipe
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self.descriptor = os.open(FOLDER / key.lstrip("/"), flags)
        except OSError as error:
            raise InvalidParameter(
                f"key: {key[:MAX_QUOTED]!r} cannot be opened ({error.strerror})"
            ) from error
        self.status = os.fstat(self.descriptor)
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            raise InvalidParameter(f"key: {key[:MAX_QUOTED]!r} is no shared memory")

    def close(self) -> None:
        os.close(self.descriptor)


def _size(key: str) -> int:
    with closing(_Opened(key)) as file:
        return file.status.st_size


def for_client(
    memory: SharedMemory | None, address: str | None, headers: Mapping[str, str]
) -> SharedMemory | None:
    """The shared memory for a client at an address (None: a Unix socket); None for one elsewhere."""
    is_here = address is None or is_loopback(address)
    return None if not is_here or any(name in headers for name in FORWARDED) else memory


def available(memory: SharedMemory | None) -> SharedMemory:
    """Raise InvalidParameter where there is none for the client."""
    if memory is None:
        raise InvalidParameter(NO_SHARED_MEMORY)
    return memory
