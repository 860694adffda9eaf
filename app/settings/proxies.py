"""The settings of a server behind a proxy: its sub-path, whom it believes, a Unix socket."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode


class ProxySettings(BaseSettings):
    """Where a proxy finds the server and what it may say about clients; `Settings` reads and checks them."""

    root_path: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        json_schema_extra={"allowed": "a path such as /rcnn, without a slash at its end"},
        description="The path below which a proxy serves everything; requests are answered with it and "
        "without it, as some proxies remove it.",
    )
    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated addresses and networks such as 10.0.0.0/8, or *"},
        description="Proxies whose X-Forwarded-For, -Proto, -Host and -Prefix count; if not set, those of "
        "FORWARDED_ALLOW_IPS, else 127.0.0.1. Those of other clients are ignored.",
    )
    uds: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a path"},
        description="The Unix socket to listen on, in place of RCNN_HOST and RCNN_PORT. Who reaches it is a "
        "proxy: its X-Forwarded headers count.",
    )

    @field_validator("forwarded_allow_ips", mode="before")
    @classmethod
    def _split_proxies(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if proxy != "*":
                ip_network(proxy, strict=False)  # raises ValueError
        return proxies
