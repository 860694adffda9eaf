"""multipart/form-data, parsed in memory as it arrives; BodyLimit bounds its bytes.

The library bounds the headers of a part: 8 of at most 4 KB each.
"""

import binascii
from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import Request

from app.errors import InvalidParameter
from app.schemas.limits import MAX_FORM_PARTS, MAX_QUOTED
from app.transport.json_body import from_base64
from app.transport.threads import run_sized


@dataclass
class Part:
    """One part of a form: the name of its field, the name of its file if it is one, its content.

    `encoding`: its Content-Transfer-Encoding, which `decode` undoes.
    """

    name: str
    filename: str | None
    encoding: str = ""
    data: bytearray = field(default_factory=bytearray)

    def decode(self) -> None:
        """Undo the encoding of the content; raises InvalidParameter."""
        if self.encoding == "base64":
            self.data = self._decoded()
        elif self.encoding == "quoted-printable":
            self.data = bytearray(binascii.a2b_qp(self.data))
        elif self.encoding not in _AS_IT_IS:
            allowed = ", ".join((*_AS_IT_IS[1:], "base64", "quoted-printable"))
            raise InvalidParameter(
                f"the part {self.name[:MAX_QUOTED]!r} has the Content-Transfer-Encoding "
                f"{self.encoding[:MAX_QUOTED]!r}; allowed are {allowed}"
            )

    def _decoded(self) -> bytearray:
        try:
            return bytearray(from_base64(self.data))
        except binascii.Error as error:
            raise InvalidParameter(
                f"the part {self.name[:MAX_QUOTED]!r} is not the base64 that its Content-Transfer-Encoding "
                f"promises ({error}); send the bytes of the file without that header"
            ) from error


_AS_IT_IS = ("", "7bit", "8bit", "binary")


SPARE_DELIMITERS = 2
"""Boundaries beside those between parts: the one at the end, and that of a part too many, which is named."""

MAX_PADDING = 1024
"""Bytes of blanks behind a boundary, which the library reads one by one; RFC 2046 allows any number."""

STEP_BYTES = 64 * 1024  # parsed before the padding is looked at

CheckPart = Callable[[str, int], None]
"""Called before the content of a part with its name and the number of parts before it; it may raise."""


async def read_parts(request: Request, options: dict[bytes, bytes], check_part: CheckPart) -> list[Part]:
    """The parts of a body with these Content-Type options; raises InvalidParameter."""
    boundary = options.get(b"boundary")
    if not boundary:
        raise without_boundary()
    try:
        form, size = _Form(boundary, check_part), 0
        async for chunk in request.stream():
            size += len(chunk)
            await run_sized(size, form.feed, chunk)
    except FormParserError as error:
        raise InvalidParameter(f"the multipart body is malformed: {error}") from error
    return await run_sized(size, form.complete)


def without_boundary() -> InvalidParameter:
    """The error of a Content-Type that does not say where parts begin."""
    return InvalidParameter("Content-Type has no boundary; let your HTTP client write the multipart header")


class _Form:
    """Collects the parts of a body from the parser's events."""

    def __init__(self, boundary: bytes, check_part: CheckPart) -> None:
        self._check_part = check_part
        self._delimiter, self._delimiters_left = b"\r\n--" + boundary, MAX_FORM_PARTS + SPARE_DELIMITERS
        self._parts: list[Part] = []
        self._header = self._value = self._disposition = self._encoding = b""
        self._complete = False
        self._padding = 0
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

    def feed(self, chunk: bytes) -> None:
        """Parse the next piece of the body; raises FormParserError, and what `check_part` raises."""
        self._delimiters_left -= chunk.count(self._delimiter)
        if self._delimiters_left < 0:
            raise InvalidParameter(
                f"the multipart body has more than {MAX_FORM_PARTS} boundaries; send fewer parts, and let "
                "your HTTP client choose the boundary"
            )
        for start in range(0, len(chunk), STEP_BYTES):
            self._step(chunk[start : start + STEP_BYTES])

    def _step(self, piece: bytes) -> None:
        padded = self._parser.state is MultipartState.BOUNDARY_PADDING
        self._parser.write(piece)
        padded = padded and self._parser.state is MultipartState.BOUNDARY_PADDING
        self._padding = self._padding + len(piece) if padded else 0
        if self._padding > MAX_PADDING:
            raise InvalidParameter(
                f"more than {MAX_PADDING} blanks follow a boundary of the multipart body; leave them out"
            )

    def complete(self) -> list[Part]:
        """The parts, after the last boundary; raises InvalidParameter."""
        if not self._complete:
            raise InvalidParameter("the multipart body ends before its last boundary; send it whole")
        for part in self._parts:
            part.decode()
        return self._parts

    def _begin(self) -> None:
        self._header = self._value = self._disposition = self._encoding = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        elif self._header.lower() == b"content-transfer-encoding":
            self._encoding = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._check_part(name, len(self._parts))
        text = None if filename is None else filename.decode("utf-8", "replace")
        self._parts.append(Part(name, text, self._encoding.decode("latin-1").strip().lower()))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].data += memoryview(data)[start:end]

    def _end(self) -> None:
        self._complete = True
