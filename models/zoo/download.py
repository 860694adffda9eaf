"""Downloads a weights file once: resumed, bounded in time and size, checked by hash, written atomically.

Not torch.hub, pooch or the hub's own download: torch.hub has no time or size bound and trusts a damaged
cached file; pooch has no size bound, needs the whole hash, of which torchvision's file names have eight
digits, and writes files with mode 0600; huggingface_hub fetches from its hub alone, without a bound.
"""

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from models.zoo.transports import (
    Body,
    FetchLimits,
    Interrupted,
    PartRefused,
    TransportError,
    open_remote,
    shown,
)

log = logging.getLogger(__name__)

PARTIAL = ".partial"
ATTEMPTS = 5  # as long as each brings more bytes
NO_VERSION = "0"

Observe = Callable[[str, int, int], None]  # the file's name, its bytes so far and in all (0: unknown)


class WeightsError(ValueError):
    """Weights that cannot be fetched, read or used; the text says what to do.

    `reason` is only the cause, without paths of this machine: clients may see it.
    """

    def __init__(self, detail: str, reason: str = "see the log") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class PublishedFile:
    """A remote weights file; `sha256` is its digest in hex, or the known beginning of it, "" if unknown."""

    url: str
    file_name: str  # in the cache
    sha256: str


@dataclass(frozen=True)
class Downloads:
    """How files are fetched: from which mirror, who watches, and the limits."""

    mirror: str | None = None
    observe: Observe | None = None
    limits: FetchLimits = field(default_factory=FetchLimits)


def fetch(source: PublishedFile, cache_dir: Path, downloads: Downloads | None = None) -> Path:
    """The file in `cache_dir`, checked by its hash, downloaded if needed; raises WeightsError.

    Of several processes and threads one downloads; the others wait for it.
    """
    path = cache_dir / source.file_name
    try:
        if _is_whole(path, source):
            return path
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _only_one(path, (downloads or Downloads()).limits):
            if not _is_whole(path, source):
                _download(source, path, downloads or Downloads())
    except (OSError, NotImplementedError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise WeightsError(
            f"{path} cannot be read or written: {cause}; "
            "set RCNN_CACHE_DIR to a writable folder on a disk with free space",
            reason=f"the cache folder cannot be used ({cause})",
        ) from error
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path, source: PublishedFile) -> bool:
    if not path.is_file():
        return False
    if not source.sha256 or sha256_of(path).startswith(source.sha256):
        return True
    log.warning("%s is damaged (its SHA-256 is not %s...): fetching it again", path, source.sha256)
    return False


@contextmanager
def _only_one(path: Path, limits: FetchLimits) -> Iterator[None]:
    """Holds the file's lock; waits for another process as long as its download may take."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is fetching %s: waiting for it", path.name)
        try:
            lock.acquire(timeout=limits.total_seconds)
        except Timeout as error:
            reason = f"another process has been fetching it for {limits.total_seconds:g} s"
            raise WeightsError(f"{path}: {reason}; end that process and start again", reason) from error
    try:
        yield
    finally:
        # Who waits for it notices that it has no name any more, and makes a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _download(source: PublishedFile, path: Path, downloads: Downloads) -> None:
    try:
        _receive_all(source, path, downloads)
    except TransportError as error:
        reason = str(error)
        raise WeightsError(
            f"{shown(source.url)} could not be fetched: {reason}. {error.advice}, "
            f"or put the file at {path} by hand, or choose the bundled model (RCNN_MODEL=shapes)",
            reason,
        ) from error


def _receive_all(source: PublishedFile, path: Path, downloads: Downloads) -> None:
    """Receive the file in as many parts as the connection makes of it; raises TransportError."""
    log.info("fetching %s into %s", shown(source.url), path)
    ends = time.monotonic() + downloads.limits.total_seconds
    for left in reversed(range(ATTEMPTS)):
        part = _Part.find(path, source)
        try:
            partial = _receive(source, part, _Target(path, downloads, ends))
        except Interrupted as error:
            if not left or _Part.find(path, source).size <= part.size:
                raise
            log.info("the connection failed (%s): continuing with what has arrived", error)
            continue
        except PartRefused:
            part.remove()
            continue
        if _finished(source, partial, path, resumed=part.size > 0):
            return
    raise TransportError("it changed while it was fetched")


def _finished(source: PublishedFile, partial: Path, path: Path, resumed: bool) -> bool:
    """Move the received file to its place; False if it was resumed and is damaged, so that it is repeated."""
    digest = sha256_of(partial)
    if digest.startswith(source.sha256):
        partial.replace(path)
        return True
    partial.unlink()
    if resumed:
        return False
    raise TransportError(
        f"its SHA-256 is {digest}, not {source.sha256}...",
        "Correct sha256 in the card if this is the right file",
    )


@dataclass(frozen=True)
class _Part:
    """What has arrived of a file so far; its name tells the version, as of an ETag."""

    path: Path | None
    size: int

    @classmethod
    def find(cls, path: Path, source: PublishedFile) -> "_Part":
        """The largest part that can be continued; the others are removed."""
        parts = sorted(path.parent.glob(f"{path.name}.*{PARTIAL}"), key=lambda part: part.stat().st_size)
        # Without version and hash nothing would tell that the rest is of another file.
        usable = [part for part in parts if source.sha256 or part != _part_path(path, "")][-1:]
        for part in set(parts) - set(usable):
            part.unlink()
        return cls(usable[0], usable[0].stat().st_size) if usable else cls(None, 0)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _part_path(path: Path, version: str) -> Path:
    tag = hashlib.sha256(version.encode()).hexdigest()[:12] if version else NO_VERSION
    return path.with_name(f"{path.name}.{tag}{PARTIAL}")


@dataclass(frozen=True)
class _Target:
    """Where the file goes, how it is fetched, and the time at which that ends."""

    path: Path
    downloads: Downloads
    ends: float


def _receive(source: PublishedFile, part: _Part, target: _Target) -> Path:
    """Receive what is missing into the part; raises TransportError, OSError."""
    downloads = target.downloads
    if part.path is not None and source.sha256 and sha256_of(part.path).startswith(source.sha256):
        return part.path  # a process ended between the last byte and the renaming
    with open_remote(source.url, part.size, downloads.limits, downloads.mirror) as body:
        partial = _part_path(target.path, body.version)
        if body.start and partial != part.path:
            raise PartRefused("it has another version by now")
        if part.path not in (None, partial):
            part.remove()
        _check_space(body, target.path)
        _write(body, partial, target)
    return partial


def _check_space(body: Body, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if body.total - body.start > free:
        missing = f"{(body.total - body.start) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {missing}")


def _write(body: Body, partial: Path, target: _Target) -> None:
    done, progress, limits = body.start, _Progress(target, body.total), target.downloads.limits
    with partial.open("ab" if body.start else "wb") as file:
        for chunk in body.chunks:
            done += len(chunk)
            if done > limits.max_bytes:
                partial.unlink()
                raise TransportError(f"the body is larger than {limits.max_bytes} bytes", "Check the address")
            if time.monotonic() > target.ends:
                again = "Start again: it continues with what has arrived"
                raise TransportError(f"it took longer than {limits.total_seconds:g} s", again)
            file.write(chunk)
            progress.show(done)
        file.flush()
        os.fsync(file.fileno())
    if done < body.total:
        raise Interrupted(f"{done} of {body.total} bytes came")


class _Progress:
    """Tells the observer each chunk, and the log each quarter."""

    def __init__(self, target: _Target, total: int) -> None:
        self._name, self._observe = target.path.name, target.downloads.observe
        self._total, self._reported = total, 0

    def show(self, done: int) -> None:
        """So many bytes have arrived."""
        if self._observe is not None:
            self._observe(self._name, done, self._total)
        if self._total and done * 4 // self._total > self._reported:
            self._reported = done * 4 // self._total
            megabytes = done / 1e6, self._total / 1e6
            log.info("fetched %d %% (%.0f of %.0f MB)", self._reported * 25, *megabytes)
