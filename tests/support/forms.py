"""Forms written byte by byte, for what no HTTP library writes."""

import httpx

from tests.support.served import Served

FORM_TYPE = "multipart/form-data; boundary=B"


def part(name: str, content: bytes, *headers: str) -> bytes:
    """A part with these parameters of its Content-Disposition, and these other headers."""
    head = "\r\n".join((f"Content-Disposition: form-data; {name}", *headers))
    return b"--B\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


async def post_form(served: Served, *parts: bytes, path: str = "/detect") -> httpx.Response:
    """Send these parts."""
    content = b"".join(parts) + b"--B--\r\n"
    return await served.client.post(path, content=content, headers={"Content-Type": FORM_TYPE})
