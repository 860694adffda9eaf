"""The setting of cameras: where they and the receivers of their results may be. A part of `Settings`."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from app.settings.stream_addresses import parse_allowed


class CameraSettings(BaseSettings):
    """Whether POST /streams is on, and for which addresses; `app.settings.settings.Settings` reads it."""

    stream_addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated addresses such as rtsp://192.168.1.0/24, and paths"},
        description="Where the cameras of POST /streams, their webhooks and MQTT brokers may be: an address "
        "and what is below its path, a network, a device or a folder. An address without a port means the "
        "usual one of its scheme. Without any, POST /streams is off.",
    )

    @field_validator("stream_addresses", mode="before")
    @classmethod
    def _split_addresses(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("stream_addresses")
    @classmethod
    def _check_addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            parse_allowed(address)
        return addresses
