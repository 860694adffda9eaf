"""Moving pictures for tests: animations, documents, videos; and a web socket's client on the app itself."""

import asyncio
import io
import json
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI
from PIL import Image as pillow

from tests.support.asgi_request import asgi_scope

GREYS = (40, 90, 140, 190, 240)
IDENTITY = b"\0\1\0\0" + b"\0" * 12 + b"\0\1\0\0" + b"\0" * 12 + b"\x40\0\0\0"
QUARTER = b"\0" * 4 + b"\0\1\0\0" + b"\0" * 4 + b"\xff\xff\0\0" + b"\0" * 16 + b"\x40\0\0\0"
"""Matrices of an MP4's track header: as it is, and to be shown a quarter turned clockwise."""


def animation(format: str = "GIF", size: tuple[int, int] = (64, 48), greys: tuple[int, ...] = GREYS) -> bytes:
    """Frames of these greys, 100 ms each; the left upper pixel is black."""
    pictures = [pillow.new("RGB", size, (grey, grey, grey)) for grey in greys]
    for one in pictures:
        one.putpixel((0, 0), (0, 0, 0))
    timed = {} if format == "TIFF" else {"duration": 100}
    lossless = {"lossless": True} if format == "WEBP" else {}
    file = io.BytesIO()
    pictures[0].save(file, format, save_all=True, append_images=pictures[1:], **timed, **lossless)
    return file.getvalue()


def video(container: str = "mp4", codec: str = "mpeg4", greys: tuple[int, ...] = GREYS) -> bytes:
    """64 x 48 pixels, 10 frames a second; the left half black, the right half of these greys."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for grey in greys:
            pixels = np.full((48, 64, 3), grey, np.uint8)
            pixels[:, :32] = 0
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


def grey(pixels: npt.NDArray[np.uint8]) -> int:
    """The grey of a frame, to the nearest ten."""
    return int(np.round(pixels[-4, -4].mean() / 10) * 10)


class Socket:
    """A client of a web socket on the app's own ASGI interface."""

    def __init__(self, app: FastAPI, url: str = "/detect/live", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        protocols = named.pop("protocols", "")
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_send = asyncio.Event()  # as long as it is not set, the client takes no answers
        self.may_send.set()
        scope = asgi_scope(url, ({"host": "test"} | named).items(), type="websocket", scheme="ws")
        scope["subprotocols"] = [one for one in protocols.split(",") if one]
        scope["extensions"] = {"websocket.http.response": {}}
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(scope, self.inbox.get, self._send))

    def frame(self, data: bytes) -> None:
        """Send a frame."""
        self.inbox.put_nowait({"type": "websocket.receive", "bytes": data})

    def text(self, text: str) -> None:
        """Send a text."""
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        """Hang up."""
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def message(self) -> dict[str, Any]:
        """The next ASGI message of the app."""
        return await asyncio.wait_for(self.outbox.get(), 20)

    async def opened(self) -> dict[str, Any]:
        """Wait until it is accepted."""
        message = await self.message()
        assert message["type"] == "websocket.accept", message
        return message

    async def answer(self) -> dict[str, Any]:
        """The next answer."""
        message = await self.message()
        assert message["type"] == "websocket.send", message
        return dict(json.loads(message["text"]))

    async def refused(self) -> tuple[int, dict[str, Any]]:
        """The status and the problem that the handshake is answered with."""
        head, body = await self.message(), await self.message()
        assert head["type"] == "websocket.http.response.start", head
        await self.ended()
        return head["status"], json.loads(body["body"])

    async def closed(self) -> tuple[int, str]:
        """The code and the reason of its end."""
        message = await self.message()
        assert message["type"] == "websocket.close", message
        await self.ended()
        return message["code"], message["reason"]

    async def ended(self) -> None:
        """Wait until the app is done with it."""
        await asyncio.wait_for(self.task, 20)

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await self.may_send.wait()
        self.outbox.put_nowait(message)
