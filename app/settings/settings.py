"""The settings: RCNN_ environment variables, each with a default, bounds and a reason.

A variable that is set but empty counts as not set, as compose files leave it; but not RCNN_API_KEYS: a secret
that failed to arrive must not open the service. An RCNN_ variable that is no setting is an error.
"""

import difflib
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings.access import LOOPBACK_NAMES, KeySettings, is_host, is_loopback, normal_origin
from app.settings.cache_folder import take_cache_folder
from app.settings.cameras import CameraSettings
from app.settings.captures import CaptureSettings
from app.settings.environment import (
    ADDRESS,
    PREFIX,
    Environment,
    drop_client_variables,
    drop_removed,
    take_otel_endpoint,
    take_renamed,
)
from app.settings.model import ModelSettings
from app.settings.platforms import PlatformRoutes, take_port, take_routes
from app.settings.protocols import ProtocolSettings
from app.settings.proxies import ProxySettings

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class ServerSettings(BaseSettings):
    """Where the server listens, its bounds, logs and traces; `Settings` reads and checks them."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        json_schema_extra={"allowed": "an address"},
        description="The address to listen on; 0.0.0.0 accepts requests from other machines.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="The port to listen on; 0 is any free one. If not set, AIP_HTTP_PORT of Vertex AI or "
        "SAGEMAKER_BIND_TO_PORT.",
    )
    grpc_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The port of the Open Inference Protocol over gRPC; 0 is none. It needs the extra grpc.",
    )
    listen: Literal["start", "ready"] = Field(
        default="start",
        description="When the ports open: at the start, where requests get 503 until the model is loaded, or "
        "when the service is ready, for balancers that only see whether a port is open.",
    )
    max_batch: int = Field(
        default=8,
        ge=1,
        le=128,
        description="Maximum number of images in a batch; warm-up lowers it if larger ones are not faster.",
    )
    max_queue: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Maximum number of accepted requests that wait for a response; beyond it 429, after a "
        "short wait for capacity.",
    )
    max_queue_bytes: int = Field(
        default=512 * MIB,
        ge=MIB,
        le=1024 * GIB,
        description="Maximum number of bytes that all accepted requests hold: bodies, pixels, and the memory "
        "of running decodes, which wait for one another. A single request is never refused for it.",
    )
    timeout_ms: int = Field(
        default=30_000,
        ge=1,
        le=600_000,
        description="Deadline of a request, and the longest that a request may ask for; beyond it 504.",
    )
    max_body_bytes: int = Field(
        default=20 * MIB,
        ge=KIB,
        le=GIB,
        description="Maximum size of a request body, counted while it is read; beyond it 413.",
    )
    max_pixels: int = Field(
        default=50_000_000,
        ge=4096,
        le=500_000_000,
        description="Maximum size of an image, width times height, checked before decoding; beyond it 413.",
    )
    truncated_images: bool = Field(
        default=False,
        json_schema_extra={"allowed": "true, false"},
        description="Whether an image that is cut short or damaged, as cameras send them, is answered for "
        "the part that is there; its answer says `truncated: true` in `image`. Otherwise it gets 400.",
    )
    decode_threads: int = Field(
        default=0, ge=0, le=64, description="Number of threads that decode images; 0 is one for each core."
    )
    inference_threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Number of threads that the networks use on the CPU; 0 is one for each core.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated origins such as https://example.org, or *"},
        description="Other sites whose pages may use the service (CORS), on every route and the web socket; "
        "* is any site.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated names such as detect.example.org, or *"},
        description="Values of the header Host, without port, that `rcnn serve` answers; others get 421. If "
        "not set: localhost, 127.0.0.1, [::1] and RCNN_HOST where that is this machine alone, else all "
        "(`*`). Set it behind a proxy on this machine that passes the client's Host on.",
    )
    max_streams: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Maximum number of open streams: /detect/stream, /detect/live, over gRPC, and cameras.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level of log messages."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Format of log lines: text, or one JSON object a line."
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=ADDRESS,
        json_schema_extra={"allowed": "an address such as http://127.0.0.1:4318"},
        description="The OpenTelemetry collector to send traces to, over HTTP; if not set, "
        "OTEL_EXPORTER_OTLP_ENDPOINT, else none. It needs the extra tracing.",
    )
    linger_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds after a stop signal in which requests are still accepted, while /health/ready "
        "is 503 already, so that balancers can turn away; RCNN_DRAIN_SECONDS begin after them.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds to finish accepted requests after a stop signal; keep it below the "
        "orchestrator's own limit.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [host for host in hosts if host != "*" and not is_host(host)]:
            raise ValueError(f"{wrong[0]!r} is no host; leave out scheme, port and path")
        return hosts

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(normal_origin, origins))

    @field_validator("allowed_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values


class Settings(
    CameraSettings,
    CaptureSettings,
    ProtocolSettings,
    ProxySettings,
    ServerSettings,
    KeySettings,
    ModelSettings,
):
    """All settings, checked and frozen; read from the environment when constructed, never at import."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _platform_routes: PlatformRoutes = PrivateAttr(default=PlatformRoutes())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment; no .env file and no secrets folder."""
        return init_settings, Environment(settings_cls)

    @property
    def checked_hosts(self) -> tuple[str, ...]:
        """The hosts that `rcnn serve` answers; none: all. No page reaches a Unix socket by a name."""
        if self.allowed_hosts:
            return () if "*" in self.allowed_hosts else self.allowed_hosts
        return (*LOOPBACK_NAMES, self.host) if is_loopback(self.host) and self.uds is None else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the log must say at the start: settings that are ignored."""
        return self._warnings

    @property
    def platform_routes(self) -> PlatformRoutes:
        """The paths that the hosting platform asks for."""
        return self._platform_routes

    @model_validator(mode="wrap")
    @classmethod
    def _check_names(cls, values: dict[str, Any], check: ModelWrapValidatorHandler[Self]) -> Self:
        values = dict(values)
        take_port(values)
        routes = take_routes(values)
        takers = (take_otel_endpoint, drop_removed, take_renamed, drop_client_variables, take_cache_folder)
        warnings = tuple(warning for take in takers for warning in take(values))
        if unknown := sorted(set(values) - set(cls.model_fields)):
            raise ValueError(_unknown(unknown))
        settings = check(values)
        settings._warnings, settings._platform_routes = warnings, routes
        return settings


def explain(error: ValidationError) -> str:
    """What is wrong with the settings, a line for each: the variable, what is wrong, what is allowed."""
    faults = error.errors(include_url=False)
    return "\n".join(_explain_one(fault["loc"], fault["msg"]) for fault in faults)


def _explain_one(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0])
    return f"{PREFIX}{name.upper()}: {message} (allowed: {allowed_values(Settings.model_fields[name])})"


def _unknown(names: list[str]) -> str:
    text = "; ".join(_unknown_one(name) for name in names) + "; `rcnn settings` lists them all"
    if any(name.endswith("_service_host") for name in names):
        text += (
            ". Kubernetes sets such variables for a Service whose name begins with rcnn: "
            "set enableServiceLinks: false in the pod's spec"
        )
    return text


def _unknown_one(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f", did you mean {PREFIX}{close[0].upper()}?" if close else ""
    return f"{PREFIX}{name.upper()} is not a setting{hint}"


def allowed_values(field: FieldInfo) -> str:
    """The allowed values of a setting, in words or as bounds."""
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["allowed"])
    bounds = {
        name: getattr(bound, name)
        for bound in field.metadata
        for name in ("ge", "le")
        if hasattr(bound, name)
    }
    return f"{bounds['ge']} to {bounds['le']}" if bounds else ", ".join(get_args(field.annotation))
