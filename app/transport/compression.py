"""Response bodies in gzip or deflate, as Accept-Encoding allows; middleware/inflate.py has requests."""

import gzip
import zlib

CODINGS = ("gzip", "deflate")

_SMALLEST = 1024  # bytes of a response; a smaller one is not compressed


def compressed(body: bytes, accept: str | None) -> tuple[bytes, dict[str, str]]:
    """A response body, compressed if Accept-Encoding allows it, and its headers."""
    coding = _preferred(accept or "") if len(body) >= _SMALLEST else None
    if coding is None:
        return body, {"Vary": "Accept-Encoding"}
    smaller = gzip.compress(body, 5, mtime=0) if coding == "gzip" else zlib.compress(body, 5)
    return smaller, {"Vary": "Accept-Encoding", "Content-Encoding": coding}


def _preferred(accept: str) -> str | None:
    """The first coding that an Accept-Encoding allows; None without one."""
    allowed = {}
    for item in accept.split(",")[:64]:
        name, _, options = item.partition(";")
        allowed[name.strip().lower()] = options.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00")
    return next((coding for coding in allowed if coding in CODINGS and allowed[coding]), None)
