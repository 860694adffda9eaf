"""Addresses of cameras and of receivers of their results, and which of them RCNN_STREAM_ADDRESSES allows."""

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path

MAX_ADDRESS = 2048  # characters
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
"""The schemes, each with the port that an address without one has."""

_ADDRESS = re.compile(
    r"(?P<scheme>[a-z]+)://((?P<credentials>[^/?#]*)@)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)"
    r"(:(?P<port>\d{1,5}))?(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?",
    re.IGNORECASE | re.ASCII,
)
_PRINTABLE = re.compile(r"[!-~]+")
_DOTS = re.compile(r"(^|/|\\|%2f|%5c)(\.|%2e){1,2}(;|/|\\|%2f|%5c|$)", re.IGNORECASE)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class StreamAddress:
    """An address in its parts; a file or device has a `path` alone, and its `scheme` is empty."""

    scheme: str
    host: str
    port: int
    path: str
    credentials: str | None = None
    query: str = ""

    @property
    def full(self) -> str:
        """The address with user and password, built from what was checked."""
        credentials = "" if self.credentials is None else f"{self.credentials}@"
        return f"{self.scheme}://{credentials}{self.host}:{self.port}{self.path}{self.query}"

    def resolved(self) -> "StreamAddress":
        """The same without links in its path, if it is a file or device; raises RuntimeError, OSError."""
        return self if self.scheme else replace(self, path=_resolved(self.path))

    @property
    def public(self) -> str:
        """What lists and logs show: no credentials, which many cameras take in the path or the query too."""
        if not self.scheme:
            return self.path
        hidden = "/…" if self.path.strip("/") or self.query else ""
        return f"{self.scheme}://{self.host}:{self.port}{hidden}"


@dataclass(frozen=True)
class AllowedAddress:
    """An entry of the setting: an address and what is below its path, or with `network` all hosts in it."""

    address: StreamAddress
    network: Network | None = None

    def allows(self, other: StreamAddress) -> bool:
        """Whether a camera or receiver may be there; `other` is resolved."""
        ours = self.address
        if not ours.scheme or not other.scheme:
            return ours.scheme == other.scheme and _is_below(other.path, _resolved(ours.path))
        if (ours.scheme, ours.port) != (other.scheme, other.port):
            return False
        if self.network is not None:
            return _ip(other.host) in self.network if _ip(other.host) is not None else False
        return ours.host == other.host and _is_below(other.path, ours.path)


def parse_address(text: str) -> StreamAddress:
    """The parts of an address or path; raises ValueError, whose text does not repeat it."""
    if len(text) > MAX_ADDRESS:
        raise ValueError(f"an address has at most {MAX_ADDRESS} characters")
    if text.startswith("/"):
        if not text.isprintable():
            raise ValueError("its path has a character that cannot be printed")
        return StreamAddress("", "", 0, text)
    match = _ADDRESS.fullmatch(text)
    if match is None or not _PRINTABLE.fullmatch(text):
        raise ValueError("it is no address such as rtsp://HOST/PATH, and no path that begins with /")
    scheme = match["scheme"].lower()
    if scheme not in PORTS:
        raise ValueError(f"the scheme {scheme[:20]} is not allowed; allowed are {', '.join(PORTS)}")
    path = match["path"] or ""
    if _DOTS.search(path):
        raise ValueError("its path has . or .. in it; give the path without them")
    port = int(match["port"] or PORTS[scheme])
    if not 0 < port < 1 << 16:
        raise ValueError(f"there is no port {port}")
    return StreamAddress(scheme, _host(match["host"]), port, path, match["credentials"], match["query"] or "")


def parse_allowed(text: str) -> AllowedAddress:
    """An entry of RCNN_STREAM_ADDRESSES; raises ValueError."""
    try:
        address = parse_address(text)
        if address.credentials is not None or address.query:
            raise ValueError("it has a user, a password or a query; leave them out")
        return AllowedAddress(address, _network(address))
    except ValueError as error:
        raise ValueError(f"{text.rpartition('@')[2][:60]!r}: {error}") from error


def _network(address: StreamAddress) -> Network | None:
    """The network of SCHEME://IP/BITS, None for another address; raises ValueError."""
    bits = address.path.removeprefix("/")
    if _ip(address.host) is None or not bits.isdecimal():
        return None
    return ipaddress.ip_network(f"{_ip(address.host)}/{bits}")


def _host(text: str) -> str:
    """The host in one spelling, an IPv6 address in brackets; raises ValueError."""
    if not text.startswith("["):
        ip = _ip(text)
        return text.lower().removesuffix(".") if ip is None else str(ip)
    return f"[{ipaddress.IPv6Address(text[1:-1])}]"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _resolved(path: str) -> str:
    """The path without links and dots."""
    return str(Path(path).resolve())


def _is_below(path: str, folder: str) -> bool:
    """Whether a path is the folder, or in it."""
    folder = folder.rstrip("/")
    return path.rstrip("/") == folder or path.startswith(f"{folder}/")
