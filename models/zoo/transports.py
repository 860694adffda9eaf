"""Opens a remote file from a byte on: over HTTP, from the Hugging Face hub, or from S3 through fsspec."""

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

HUB, STORAGE = "hf://", "s3://"
HUB_FILE = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")
HUB_HOST = "https://huggingface.co"
CHUNK = 1 << 20
log = logging.getLogger(__name__)
LOGINS = {
    HUB: "Set HF_TOKEN to a token of an account that may read it (with pip install 'rcnn-serve[hf]')",
    STORAGE: "Give AWS credentials that may read it, as for the aws program",
    "": "Give an address that needs no login",
}
INSTALL_S3 = "Run pip install 'rcnn-serve[s3]'"


class TransportError(Exception):
    """A file that is not sent; `advice` is what to do about it. The text has no secret of the address."""

    def __init__(self, reason: str, advice: str = "Check the network and proxy") -> None:
        super().__init__(reason)
        self.advice = advice


class Interrupted(TransportError):
    """The connection failed; another try may continue where it stopped."""


class PartRefused(TransportError):
    """The part that has arrived cannot be continued."""


@dataclass(frozen=True)
class FetchLimits:
    """Limits of a download. Connecting has three seconds, so that a start without a network stays quick."""

    connect_seconds: float = 3.0  # until connected: name look-up and all addresses together
    read_seconds: float = 30.0  # between two chunks of the body
    total_seconds: float = 3600.0
    max_bytes: int = 2 << 30  # the largest published detector has 0.17 GB


@dataclass(frozen=True, eq=False)
class Body:
    """The bytes of a file from `start` on; `total` of the whole file, 0 if unknown.

    `version` changes with the content (an ETag); "": the server has none.
    """

    start: int
    total: int
    version: str
    chunks: Iterator[bytes]


def open_remote(
    url: str, start: int, limits: FetchLimits, mirror: str | None = None
) -> AbstractContextManager[Body]:
    """The file from byte `start` on, or from 0 where the server cannot; raises TransportError."""
    if url.startswith(STORAGE):
        return _open_storage(url, start, limits)
    hub = _hub_request(url, mirror is not None) if url.startswith(HUB) else None
    address, headers = hub or (url, {})
    login = LOGINS[HUB if hub else ""]
    return _open_http(_Request(_at_mirror(address, mirror), headers, login), start, limits)


def shown(url: str) -> str:
    """The address without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _at_mirror(address: str, mirror: str | None) -> str:
    """The address at a mirror, which takes the place of scheme and host; "{host}" in it is that host."""
    if mirror is None:
        return address
    parts = urlsplit(address)
    query = f"?{parts.query}" if parts.query else ""
    return f"{mirror.replace('{host}', parts.netloc).rstrip('/')}{parts.path}{query}"


def _hub_request(url: str, anonymous: bool) -> tuple[str, Mapping[str, str]]:
    """Address and headers of a file on the hub. A mirror never gets the token."""
    match = HUB_FILE.fullmatch(url)
    if match is None:
        raise TransportError("no address of the hub", 'Write it as "hf://OWNER/REPO/FILE"')
    repo, revision, file = match["repo"], match["revision"] or "main", match["file"]
    if not anonymous:
        try:
            from huggingface_hub import get_token, hf_hub_url

            token = get_token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return hf_hub_url(repo, file, revision=revision), headers
        except ImportError:
            log.info("huggingface_hub is not installed: the hub is asked without a token")
    return f"{HUB_HOST}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(file)}", {}


@dataclass(frozen=True, eq=False)
class _Request:
    address: str
    headers: Mapping[str, str]
    login: str  # what to do if it is refused without one


@contextmanager
def _open_http(request: _Request, start: int, limits: FetchLimits) -> Iterator[Body]:
    headers = {**request.headers, **({"Range": f"bytes={start}-"} if start else {})}
    client = _client(limits, headers)
    try:
        with client, closing(_connect(client, request.address, limits.connect_seconds)) as response:
            _check_status(response, request)
            yield _body(response, start)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, httpx.TransportError):
            raise Interrupted(reason) from error
        raise TransportError(reason) from error


def _body(response: httpx.Response, start: int) -> Body:
    headers = response.headers
    version = headers.get("ETag") or headers.get("Last-Modified") or ""
    chunks = response.iter_bytes()  # as they come: a buffered rest would be lost with the connection
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            raise TransportError(f"another part than asked for ({headers.get('Content-Range')})")
        return Body(start, 0 if match[2] == "*" else int(match[2]), version, chunks)
    return Body(0, int(headers.get("Content-Length", 0)), version, chunks)


def _check_status(response: httpx.Response, request: _Request) -> None:
    code = response.status_code
    if request.address.startswith("https://") and response.url.scheme != "https":
        raise TransportError("it redirects from https to http, which anybody on the way can change")
    if code < 300:
        return
    said = response.headers.get("X-Error-Message", "")  # of the hub
    reason = f"{code} {response.reason_phrase}{f' ({said[:200]})' if said else ''}"
    if code == 416:
        raise PartRefused(reason)
    if code in (401, 403):
        raise TransportError(reason, request.login)
    if code in (404, 410):
        raise TransportError(reason, "Check the address")
    raise TransportError(reason)


def _client(limits: FetchLimits, headers: Mapping[str, str]) -> httpx.Client:
    timeout = httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds)
    # identity: the hash is of the uncompressed file.
    headers = {**headers, "Accept-Encoding": "identity"}
    try:
        return httpx.Client(timeout=timeout, follow_redirects=True, headers=headers)
    except (ValueError, ImportError) as error:  # a proxy variable that httpx cannot use
        raise TransportError(f"the proxy settings cannot be used: {error}") from error


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


@contextmanager
def _open_storage(url: str, start: int, limits: FetchLimits) -> Iterator[Body]:
    """A file of a storage, through the library that fsspec knows for the scheme."""
    with _storage_faults():
        storage, path = _storage(url, limits)
        info = storage.info(path)
        total, version = int(info["size"]), str(info.get("ETag") or info.get("LastModified") or "")
        start = start if start <= total else 0
        file = storage.open(path, "rb", block_size=8 * CHUNK, cache_type="readahead")
    with closing(file):
        yield Body(start, total, version, _read(file, start))


def _read(file: Any, start: int) -> Iterator[bytes]:
    with _storage_faults():
        file.seek(start)
        while chunk := file.read(CHUNK):
            yield chunk


def _storage(url: str, limits: FetchLimits) -> tuple[Any, str]:
    import fsspec  # torch requires it

    options: dict[str, Any] = {}
    if fsspec.get_filesystem_class("s3").__module__.startswith("s3fs"):
        seconds = {"connect_timeout": limits.connect_seconds, "read_timeout": limits.read_seconds}
        options = {"config_kwargs": {**seconds, "retries": {"max_attempts": 2}}}
    storage, path = fsspec.url_to_fs(url, **options)
    return storage, str(path)


@contextmanager
def _storage_faults() -> Iterator[None]:
    """Errors of fsspec and of the libraries below it, as TransportError."""
    try:
        yield
    except ImportError as error:
        raise TransportError("s3fs is not installed", INSTALL_S3) from error
    except FileNotFoundError as error:
        raise TransportError("there is no such object", "Check bucket and key") from error
    except PermissionError as error:
        raise TransportError("it may not be read", LOGINS[STORAGE]) from error
    except OSError as error:
        raise Interrupted(_first_line(error)) from error
    except _client_errors() as error:
        login = "redential" in type(error).__name__
        raise TransportError(
            _first_line(error), LOGINS[STORAGE] if login else "Check the network, AWS_ENDPOINT_URL and region"
        ) from error


def _client_errors() -> tuple[type[Exception], ...]:
    """What s3fs lets through of the library below it."""
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return ()
    return (BotoCoreError,)


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0]
