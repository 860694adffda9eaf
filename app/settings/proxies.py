"""The settings of a server behind a proxy, or without one: sub-path, trusted proxies, Unix socket, TLS."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
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
    tls_cert: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a path"},
        description="The file with the certificate of this server and of those that signed it, in PEM: with "
        "it and RCNN_TLS_KEY the server speaks HTTPS, and gRPC over TLS. It is read again when it changes.",
    )
    tls_key: Path | None = Field(
        default=None,
        json_schema_extra={"allowed": "a path"},
        description="The file with the private key of RCNN_TLS_CERT, in PEM, without a passphrase.",
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

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            one, other = ("CERT", "KEY") if self.tls_key is None else ("KEY", "CERT")
            raise ValueError(f"RCNN_TLS_{one} needs RCNN_TLS_{other}: set both for TLS, or none of them")
        return self
