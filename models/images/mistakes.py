"""What data is that is no image of an allowed format, by its first bytes, and what to do about it."""

import base64
import binascii
import re

HEAD = 1024
"""Bytes at the start that are looked at."""

_CONVERT = "save it as JPEG or PNG"
_UNPACK = "unpack it and send a file of it"
_ENCODE = "encode its pixels as PNG"
_SEND_FILE = "send the image file"
_PATTERNS = (
    (
        rb"(?is)--.{0,900}content-disposition:",
        "a multipart body",
        "send it with Content-Type: multipart/form-data; boundary=…, as your HTTP client writes it",
    ),
    (
        rb"(\xef\xbf\xbd|\xc2\x89|\xc3\xbf\xc3\x98)(\xef\xbf\xbd|PNG|\xc3\xbf)",
        "the bytes of an image that were taken for text and encoded again",
        "read and send the file as bytes",
    ),
    (rb"\x89PNG(?!\r\n\x1a\n)", "a PNG whose line ends were changed", "transfer the file as binary"),
    (rb"P[1-7fF][\s#]", "a Netpbm file", _CONVERT),
)
# By magic numbers: (position, bytes, what, what to do).
_MAGIC = (
    (0, b"%PDF-", "a PDF document", "export its page as an image"),
    (0, b"%!PS", "a PostScript document", "export its page as an image"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document (EPS)", "export its page as an image"),
    (0, b"PK\3\4", "a ZIP archive", _UNPACK),
    (0, b"PK\5\6", "an empty ZIP archive", _SEND_FILE),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x1f\x8b", "compressed with gzip", "inflate it, or send it with Content-Encoding: gzip"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "inflate it, or send it with Content-Encoding: zstd"),
    (0, b"BZh", "compressed with bzip2", "inflate it"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "inflate it"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", _CONVERT),
    (0, b"\xffO\xffQ", "JPEG 2000", _CONVERT),
    (0, b"II\xbc\x01", "JPEG XR", _CONVERT),
    (0, b"8BPS", "a Photoshop document (PSD)", _CONVERT),
    (0, b"gimp xcf", "a GIMP document (XCF)", _CONVERT),
    (0, b"v/1\x01", "OpenEXR", _CONVERT),
    (0, b"#?RADIANCE", "Radiance HDR", _CONVERT),
    (0, b"#?RGBE", "Radiance HDR", _CONVERT),
    (128, b"DICM", "a DICOM file", "export its picture as PNG"),
    (0, b"SIMPLE  =", "a FITS file", "export its picture as PNG"),
    (0, b"qoif", "a QOI file", _CONVERT),
    (0, b"DDS ", "a DDS texture", _CONVERT),
    (0, b"\xabKTX", "a KTX texture", _CONVERT),
    (0, b"\0\0\1\0", "a Windows icon (ICO)", _CONVERT),
    (0, b"\0\0\2\0", "a Windows cursor (CUR)", _CONVERT),
    (0, b"icns", "an icon of macOS (ICNS)", _CONVERT),
    (0, b"\x8aMNG", "an MNG animation", _CONVERT),
    (0, b"\x8bJNG", "a JNG file", _CONVERT),
    (0, b"BPG\xfb", "a BPG file", _CONVERT),
    (0, b"FLIF", "a FLIF file", _CONVERT),
    (0, b"AT&TFORM", "a DjVu document", _CONVERT),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", _CONVERT),
    (40, b" EMF", "a Windows metafile (EMF)", _CONVERT),
    (8, b"WAVE", "a sound (WAV)", _SEND_FILE),
    (0, b"ID3", "a sound (MP3)", _SEND_FILE),
    (0, b"fLaC", "a sound (FLAC)", _SEND_FILE),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", _ENCODE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _ENCODE),
    (0, b"\x80\2", "a pickle of Python", _ENCODE),
    (0, b"\x80\3", "a pickle of Python", _ENCODE),
    (0, b"\x80\4\x95", "a pickle of Python", _ENCODE),
    (0, b"\x80\5\x95", "a pickle of Python", _ENCODE),
    (0, b"PAR1", "a Parquet file", "send an image of it"),
    (0, b"SQLite format 3", "an SQLite database", _SEND_FILE),
    (0, b"\x7fELF", "a program", _SEND_FILE),
    (0, b"MZ", "a program for Windows", _SEND_FILE),
    (0, b"\0\5\x16\7", "metadata of macOS", "send the file of the same name without ._ in front"),
    (0, b"\0\5\x16\0", "metadata of macOS", _SEND_FILE),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of Office, or Thumbs.db", _SEND_FILE),
    (0, b"L\0\0\0\1\x14\2\0", "a Windows shortcut", "send the file that it names"),
)
_VIDEO = re.compile(
    rb".{4}(ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\1[\xb3\xba]|FLV\1|OggS|"
    rb"0&\xb2u\x8ef\xcf\x11|G.{187}G",
    re.DOTALL,
)
_TEXT = (
    (rb"\[object \w+\]", "a JavaScript object that was made a text", "send the File, Blob or bytes"),
    (rb"b['\"]\\x|b['\"](GIF8|RIFF|BM)", "the text of Python bytes", "send the bytes themselves"),
    (
        rb"(0x|\\x)?(ff ?d8 ?ff|89 ?50 ?4e ?47|47494638|52494646)",
        "hexadecimal text",
        "decode it and send the bytes",
    ),
    (rb"[\[{]", "JSON", "send it with Content-Type: application/json"),
    (rb"data:", "a data URL", 'send it as JSON, {"image": "data:…"}, or decode it'),
    (rb"<!doctype html|<html|.{0,900}<(head|body)[ >]", "an HTML page", "look at what the address has"),
    (rb"<svg|.{0,900}<svg[ >]", "an SVG drawing", "convert it to PNG"),
    (rb"<\?xml|<[a-z]", "XML", "send the image that it names"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull` and send the file"),
    (rb"https?://\S+\s*$", "an address", 'send its content, or {"url": "…"} as JSON if the server fetches'),
    (
        rb"\w{1,40}(=|%3d)[^=]",
        "a form without a file",
        "send the file with curl -F image=@photo.jpg or --data-binary @photo.jpg",
    ),
)
_BINARY_KINDS = tuple((re.compile(pattern), what, advice) for pattern, what, advice in _PATTERNS)
_TEXT_KINDS = tuple((re.compile(pattern, re.I | re.DOTALL), what, advice) for pattern, what, advice in _TEXT)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF.{4}WEBP|BM.{12}|II[*+]\0|MM\0[*+]|.{4}ftyp|\xff\x0a|"
    rb"\0\0\0\x0cJXL ",
    re.DOTALL,
)
_BLANKS = b" \t\r\n"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LEAST_BASE64 = 100  # characters that no name or word has without a blank
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def explained(data: bytes) -> str | None:
    """What the data is, and what to do; None for what is unknown."""
    head = data[:HEAD]
    if found := of_binary(head) or of_video(head) or _of_one_value(head):
        return found
    if head.startswith(_UTF16) and (text := head.decode("utf-16", "ignore").encode()) and is_text(text):
        return of_text(text.strip()) or sentence("UTF-16 text", "send the bytes of the image file")
    return (
        (of_text(head.strip()) or sentence("text", "send the bytes of the image file"))
        if is_text(head)
        else None
    )


def sentence(what: str, advice: str) -> str:
    """What it is and what to do."""
    return f"this is {what}, not an image; {advice}"


def starts_as_image(data: bytes | bytearray) -> bool:
    """Whether the first bytes are those of an image format; the decoder may know more formats."""
    return _STARTS.match(data) is not None


def of_binary(head: bytes) -> str | None:
    """What a file is that is neither an image of an allowed format nor a video nor text."""
    for position, magic, what, advice in _MAGIC:
        if head.startswith(magic, position):
            known = f"this is {what}, which is not an allowed format; {advice}"
            return known if advice == _CONVERT else sentence(what, advice)
    for pattern, what, advice in _BINARY_KINDS:
        if pattern.match(head):
            return sentence(what, advice)
    return None


def of_video(head: bytes) -> str | None:
    """As `of_binary`, of a video; not where its brand is that of an image."""
    return sentence("a video", "send it to POST /detect/stream") if _VIDEO.match(head) else None


def _of_one_value(head: bytes) -> str | None:
    if head[:1] in (b"\0", b"\xff") and len(set(head)) == 1:
        return sentence(f"nothing but bytes of value {head[0]}", "the file was not written or sent whole")
    return None


def of_text(head: bytes) -> str | None:
    """What a text without white space in front is; None for any other text."""
    for pattern, what, advice in _TEXT_KINDS:
        if pattern.match(head):
            return sentence(what, advice)
    if _is_base64(head):
        return sentence(
            "base64 text",
            'send it as JSON, {"image": "<base64>"} with Content-Type: application/json, or decode it',
        )
    return None


def is_text(data: bytes) -> bool:
    """Whether the first bytes are printable; the last character may be cut."""
    head = data[:HEAD]
    try:
        text = head.decode("utf-8") if len(head) < HEAD else head.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    if len(head) == HEAD and len(text.encode()) < len(head) - 3:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text)


def _is_base64(head: bytes) -> bool:
    text = head.translate(None, _BLANKS + b"\"'")
    if not _BASE64.fullmatch(text):
        return False
    try:
        start = base64.b64decode(text[: len(text[:64]) // 4 * 4].translate(_STANDARD))
    except binascii.Error:
        return False
    return starts_as_image(start) or len(text) >= _LEAST_BASE64
