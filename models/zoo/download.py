"""Downloads a published weights file: bounded in time and size, checked by hash, written atomically.

Not torch.hub or pooch: torch.hub has no time or size bound and trusts a damaged cached file; pooch has no
size bound, needs the whole hash, of which torchvision's file names have eight digits, and writes files with
mode 0600. Neither bounds the name look-up.
"""

import hashlib
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

log = logging.getLogger(__name__)

PARTIAL = ".partial"
STALE_SECONDS = 3600.0  # a running download writes at least once per read timeout


class WeightsError(ValueError):
    """Weights that cannot be fetched, read or used; the text says what to do.

    `reason` is only the cause, without paths of this machine: clients may see it.
    """

    def __init__(self, detail: str, reason: str = "see the log") -> None:
        super().__init__(detail)
        self.reason = reason


class _WrongFile(Exception):
    """The server did not send the expected file."""


@dataclass(frozen=True)
class PublishedFile:
    """A published weights file; `sha256` is its digest in hex, or the known beginning of it."""

    url: str
    file_name: str
    sha256: str


@dataclass(frozen=True)
class FetchLimits:
    """Limits of a download. Connecting has three seconds, so that a start without a network stays quick."""

    connect_seconds: float = 3.0  # until connected: name look-up and all addresses together
    read_seconds: float = 30.0  # between two chunks of the body
    max_bytes: int = 2 << 30  # the largest published detector has 0.17 GB


def fetch(source: PublishedFile, cache_dir: Path, limits: FetchLimits | None = None) -> Path:
    """The published file in `cache_dir`, checked by its hash, downloaded if needed; raises WeightsError."""
    path = cache_dir / source.file_name
    try:
        if path.is_file():
            if sha256_of(path).startswith(source.sha256):
                return path
            log.warning("%s is damaged (its SHA-256 is not %s...): fetching it again", path, source.sha256)
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        _download(source, path, limits or FetchLimits())
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read or written: {error.strerror or error}; "
            "set RCNN_CACHE_DIR to a writable folder on a disk with free space",
            reason=f"the cache folder cannot be used ({error.strerror or type(error).__name__})",
        ) from error
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_stale(path: Path) -> None:
    """Remove partial downloads of this file that killed processes left."""
    for partial in path.parent.glob(f"{path.name}.*{PARTIAL}"):
        with suppress(FileNotFoundError):  # another process may finish it meanwhile
            if time.time() - partial.stat().st_mtime > STALE_SECONDS:
                partial.unlink()


def _download(source: PublishedFile, path: Path, limits: FetchLimits) -> None:
    # A unique name: two processes may download at once, and the last rename wins.
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    log.info("fetching %s into %s", source.url, path)
    try:
        digest = _receive(source, partial, limits)
        if not digest.startswith(source.sha256):
            raise _WrongFile(f"its SHA-256 is {digest}, not {source.sha256}...")
        partial.replace(path)
    except (httpx.HTTPError, httpx.InvalidURL, _WrongFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"{source.url} could not be fetched: {reason}. "
            f"Check the network and proxy, or put the file at {path} by hand, "
            "or choose the bundled model (RCNN_MODEL=shapes)",
            reason,
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _receive(source: PublishedFile, partial: Path, limits: FetchLimits) -> str:
    """Stream the body into `partial`; its SHA-256 in hex."""
    client = _client(limits)
    with client, closing(_connect(client, source.url, limits.connect_seconds)) as response:
        response.raise_for_status()
        return _write(response, partial, limits.max_bytes)


def _client(limits: FetchLimits) -> httpx.Client:
    timeout = httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds)
    # identity: the hash is of the uncompressed file.
    headers = {"Accept-Encoding": "identity"}
    try:
        return httpx.Client(timeout=timeout, follow_redirects=True, headers=headers)
    except (ValueError, ImportError) as error:  # a proxy variable that httpx cannot use
        raise _WrongFile(f"the proxy settings cannot be used: {error}") from error


def _connect(client: httpx.Client, url: str, seconds: float) -> httpx.Response:
    """Send the request; raises ConnectTimeout if it is not connected within `seconds`.

    httpx bounds each address separately and the name look-up not at all, which adds up to a minute on a
    machine whose network drops packets. So a thread sends the request and is abandoned if it is late.
    """
    connected = threading.Event()

    def trace(event: str, _info: object) -> None:
        if event == "connection.connect_tcp.complete":
            connected.set()

    request = client.build_request("GET", url, extensions={"trace": trace})
    executor = ThreadPoolExecutor(1, thread_name_prefix="fetch")
    sending = executor.submit(client.send, request, stream=True)
    executor.shutdown(wait=False)
    sending.add_done_callback(lambda _: connected.set())
    if not connected.wait(seconds):
        sending.add_done_callback(_discard)
        raise httpx.ConnectTimeout(f"no connection within {seconds:g} s")
    return sending.result()


def _discard(sending: Future[httpx.Response]) -> None:
    if sending.exception() is None:
        sending.result().close()


def _write(response: httpx.Response, partial: Path, max_bytes: int) -> str:
    total = int(response.headers.get("Content-Length", 0))
    digest, done, reported = hashlib.sha256(), 0, 0
    with partial.open("xb") as file:
        for chunk in response.iter_bytes(1 << 20):
            done += len(chunk)
            if done > max_bytes:
                raise _WrongFile(f"the body is larger than {max_bytes} bytes")
            file.write(chunk)
            digest.update(chunk)
            if total and done * 4 // total > reported:
                reported = done * 4 // total
                log.info("fetched %d %% (%.0f of %.0f MB)", reported * 25, done / 1e6, total / 1e6)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
