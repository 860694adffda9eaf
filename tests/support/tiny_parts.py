"""The largest legal requests of the smallest parts: heads and bodies for every route."""

import asyncio
import gc
import itertools
import string
import time
from types import TracebackType
from typing import Self

HEAD_BYTES = 64_000  # of a query, or of headers
_NAMES = ["".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=3)]


def repeated(part: str, size: int = HEAD_BYTES, start: str = "", end: str = "") -> str:
    """A text of `size` characters: the same part many times between its two ends."""
    return start + part * ((size - len(start) - len(end)) // len(part)) + end


QUERIES = {
    "names": "&".join(_NAMES[: HEAD_BYTES // 4]),
    "names with values": "&".join(f"{name}=" for name in _NAMES[: HEAD_BYTES // 5]),
    "nothing": repeated("&"),
    "classes": repeated("classes=1&"),
    "escapes": repeated("%61&"),
    "a list": repeated("1,", start="classes="),
    "a name": repeated("x", start="classes="),
}
HEADERS: dict[str, dict[str, str]] = {
    "names": {f"x-{number}": "" for number in range(8000)},
    "accept": {"accept": repeated("a/b;q=0.1,"), "accept-encoding": repeated("a,")},
    "a media type": {"content-type": repeated(";")},
    "quotes": {"content-type": repeated('"a";', start='a/b;x="')},
    "ids": {"x-request-id": repeated("a"), "x-priority": repeated("1")},
    "keys": {"authorization": repeated("Bearer "), "cookie": repeated("a=b;")},
}

_INPUT = '{"inputs":[{"name":"images","datatype":"UINT8","shape":[1,100,100,3],"data":'
JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data; boundary=B"
_PART = '--B\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


def bodies(size: int) -> dict[str, tuple[str, str]]:
    """Media type and text of bodies of `size` bytes, by what they are made of."""

    def json(part: str, start: str, end: str) -> tuple[str, str]:
        return JSON_TYPE, repeated(part, size, start, end)

    def form(part: str, start: str) -> tuple[str, str]:
        return FORM_TYPE, repeated(part, size, start, "\r\n--B--\r\n")

    keys = ",".join(f'"{number}":0' for number in range(size // 12))
    return {
        "keys": (JSON_TYPE, '{"image":"AA==",' + keys + "}"),
        "parameters": (JSON_TYPE, '{"inputs":[],"instances":["AA=="],"parameters":{' + keys + "}}"),
        "inputs": json("{},", '{"image":[],"instances":[],"inputs":[', "{}]}"),
        "images": json('{"type":"base64"},', '{"image":[', "{}]}"),
        "outputs": json('{"name":"boxes"},', '{"inputs":[],"outputs":[', '{"name":"boxes"}]}'),
        "shape": json("1,", '{"inputs":[{"shape":[', "1]}]}"),
        "class_filter": json('"a",', '{"image":{"type":"base64","value":"AA=="},"class_filter":[', '""]}'),
        "lists": json("[],", _INPUT + "[", "[]]}]}"),
        "brackets": json("[", _INPUT, ""),
        "numbers": json("0,", _INPUT + "[", "0]}]}"),
        "pixels": json("[0,0,0],", _INPUT + "[[[", "[0,0,0]]]]}]}"),
        "texts": json('"",', _INPUT + "[", '""]}]}'),
        "data": json('{"data":[0]},', '{"inputs":[', "{}]}"),
        "spaces": json(" ", "{", "}"),
        "commas in a name": json("\\u002c", '{"instances":["AA=="],"parameters":{"classes":["', '"]}}'),
        "base64": json("A", '{"image":"', '"}'),
        "lines of base64": json("\\n", '{"image":"', '"}'),
        "a data URL": json("a", '{"image":"data:image/', '"}'),
        "parts": form(_PART + "x\r\n", ""),
        "headers of a part": form("A: b\r\n", "--B\r\n"),
        "a header of a part": form(" ", "--B\r\nA:"),
        "boundaries": form("\r\n--Bx", _PART),
        "blanks": form(" ", _PART + "\r\n--B"),
        "beginnings of boundaries": form("\r\n--", _PART),
        "a field": form("1", '--B\r\nContent-Disposition: form-data; name="min_confidence"\r\n\r\n'),
        "a form in a URL": ("application/x-www-form-urlencoded", repeated("a=1&", size)),
    }


class Watchdog:
    """The most work of this process between two turns of its event loop: what other requests wait for.

    In seconds of CPU, which is work done: what else the machine does is not counted. Nor is garbage
    collection: after other tests it looks at much that is not of this request.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        gc.disable()
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(0)
        self._task.cancel()
        gc.enable()

    async def _watch(self) -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest, last = max(self.longest, now - last), now
