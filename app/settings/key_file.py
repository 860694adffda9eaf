"""A file of API keys: `NAME=KEY` or `KEY` a line, `#` begins a comment."""

import re
from pathlib import Path

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})=(?P<key>.*[^=].*)")
MOST_BYTES = 1 << 20


def read_key_file(path: Path) -> dict[str, str]:
    """Name by key, "" for a key without a name; raises ValueError with the number of a wrong line, OSError.

    A key that ends with `=`, as base64 does, needs no name: what is left of it would be no key.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES} bytes")
    keys: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _NAMED.fullmatch(text)
        name, key = match.group("name", "key") if match else ("", text)
        if not fits_a_header(key):
            raise ValueError(f"{path}, line {number}: the key has a space or a character outside ASCII")
        keys[key] = name
    if not keys:
        raise ValueError(f"{path} has no key; to serve without keys do not set the variable at all")
    return keys


def fits_a_header(key: str) -> bool:
    """Whether a key can be sent in a header."""
    return bool(key) and key.isascii() and key.isprintable() and " " not in key
