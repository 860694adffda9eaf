"""The settings of access: API keys for detection and for loading models, and names of hosts."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from app.settings.key_file import fits_a_header, read_key_file

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that only its own clients can use."""

_HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?|\[[0-9a-fA-F:.]+\]", re.ASCII)

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[^]]*\]|[^/:]+)(:(?P<port>\d{1,5}))?/?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def is_loopback(host: str) -> bool:
    """Whether a server on this address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_host(text: str) -> bool:
    """Whether the text is a name or an address (IPv6 in brackets), without a port."""
    return _HOST.fullmatch(text) is not None


def normal_origin(text: str) -> str:
    """An origin as browsers send it, or `*`; raises ValueError."""
    if text == "*":
        return text
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or not is_host(match["host"]):
        raise ValueError(
            f"{text!r} is no origin; give scheme and host, and the port where the address has one"
        )
    scheme, host, port = match.group("scheme", "host", "port")
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(scheme) else "")


class KeySettings(BaseSettings):
    """The keys of the server; `app.settings.settings.Settings` reads and checks them."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated keys"},
        description="API keys; each request must send one of them. Without any the service is open.",
    )
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated keys"},
        description="API keys of administrators, who load models, start streams and read captures; none of "
        "them in RCNN_API_KEYS. Without any, all of this is off.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a path"},
        description="A file of more API keys, NAME=KEY or KEY a line; # begins a comment. It is read again "
        "when it has changed. Names appear in the log and in rcnn_key_requests_total.",
    )

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split_keys(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(fits_a_header(key.get_secret_value()) for key in keys):
            raise ValueError(
                "a key is blank, or has a space or a character outside ASCII in it; "
                "to serve without keys do not set the variable at all"
            )
        return keys

    @field_validator("admin_keys")
    @classmethod
    def _keep_apart(cls, keys: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if set(keys) & set(info.data.get("api_keys", ())):
            raise ValueError("one of them is in RCNN_API_KEYS too, which may not load models")
        return keys

    @field_validator("api_keys_file")
    @classmethod
    def _check_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None:
            return None
        try:
            keys = read_key_file(path)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        if set(keys) & {key.get_secret_value() for key in info.data.get("admin_keys", ())}:
            raise ValueError(f"a key in {path} is in RCNN_ADMIN_KEYS too; keys of users may not load models")
        return path
