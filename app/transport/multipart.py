"""multipart/form-data, parsed in memory as it arrives; BodyLimit bounds its bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.errors import InvalidParameter


@dataclass
class Part:
    """One part of a form: the name of its field, the name of its file if it is one, its content."""

    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)


CheckPart = Callable[[str, int], None]
"""Called before the content of a part with its name and the number of parts before it; it may raise."""


async def read_parts(request: Request, options: dict[bytes, bytes], check_part: CheckPart) -> list[Part]:
    """The parts of a body with these Content-Type options; raises InvalidParameter."""
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidParameter(
            "Content-Type has no boundary; let your HTTP client write the multipart header"
        )
    try:
        form = _Form(boundary, check_part)
        async for chunk in request.stream():
            form.feed(chunk)
    except FormParserError as error:
        raise InvalidParameter(f"the multipart body is malformed: {error}") from error
    return form.complete()


class _Form:
    """Collects the parts of a body from the parser's events."""

    def __init__(self, boundary: bytes, check_part: CheckPart) -> None:
        self._check_part = check_part
        self._parts: list[Part] = []
        self._header = self._value = self._disposition = b""
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )
        self.feed: Callable[[bytes], int] = self._parser.write

    def complete(self) -> list[Part]:
        """The parts, after the last boundary; raises InvalidParameter."""
        if not self._complete:
            raise InvalidParameter("the multipart body ends before its last boundary; send it whole")
        return self._parts

    def _begin(self) -> None:
        self._header = self._value = self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._check_part(name, len(self._parts))
        self._parts.append(Part(name, None if filename is None else filename.decode("utf-8", "replace")))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].data += memoryview(data)[start:end]

    def _end(self) -> None:
        self._complete = True
