"""The settings: RCNN_ environment variables, each with a default, bounds and a reason.

A variable that is set but empty counts as not set, as compose files leave it; but not RCNN_API_KEYS, for a
secret that failed to arrive must not open the service. An RCNN_ variable that is no setting is an error.
"""

import difflib
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.settings.access import KeySettings
from app.settings.model import ModelSettings

PREFIX = "RCNN_"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Settings(KeySettings, ModelSettings):
    """All settings, checked and frozen; read from the environment when constructed, never at import."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        json_schema_extra={"allowed": "an address"},
        description="The address to listen on; this machine alone unless you say 0.0.0.0.",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="The port to listen on; 0 takes any free one."
    )
    grpc_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="The port to listen on for the Open Inference Protocol over gRPC; 0 is none. "
        "It needs the extra grpc.",
    )
    max_batch: int = Field(
        default=8,
        ge=1,
        le=128,
        description="Most images in a batch; warm-up takes fewer where more are no use.",
    )
    batch_wait_ms: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Time to hold a batch that is not full; each request pays for it.",
    )
    max_queue: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Most requests accepted and not answered yet; beyond it 429, after a moment at the door.",
    )
    max_queue_bytes: int = Field(
        default=512 * MIB,
        ge=MIB,
        le=1024 * GIB,
        description="Most bytes that the accepted requests hold together, bodies and pixels: "
        "it bounds the memory; a request that is alone is never refused for it.",
    )
    timeout_ms: int = Field(
        default=30_000,
        ge=1,
        le=600_000,
        description="Time to answer a request, and the most that one may ask for; beyond it 504.",
    )
    max_body_bytes: int = Field(
        default=20 * MIB,
        ge=KIB,
        le=GIB,
        description="Largest request body; counted while it streams in, beyond it 413.",
    )
    max_pixels: int = Field(
        default=50_000_000,
        ge=4096,
        le=500_000_000,
        description="Largest image, width times height; checked before decoding.",
    )
    max_tiles: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Most tiles of one image: each takes a place in the queue and the time of an image; "
        "tile=auto takes larger tiles instead of more.",
    )
    decode_threads: int = Field(
        default=0, ge=0, le=64, description="Threads that decode images; 0 takes one for each core."
    )
    inference_threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Threads that the networks use on the CPU; 0 takes one for each core.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated origins such as https://example.org"},
        description="Sites besides this server's own whose pages may open /detect/live.",
    )
    max_streams: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Most streams open at a time: /detect/stream, /detect/live, and over gRPC.",
    )
    stream_max_frames: int = Field(
        default=1000, ge=1, le=1_000_000, description="Most frames that /detect/stream detects in one body."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people, or for machines."
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+(/\S*)?$",
        json_schema_extra={"allowed": "an address such as http://127.0.0.1:4318"},
        description="The OpenTelemetry collector to send traces to, over HTTP; without it there are none. "
        "It needs the extra tracing.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Time to finish accepted requests when stopped; keep it below the "
        "orchestrator's own patience.",
    )

    deepstack_max_predictions: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Most predictions in an answer of the DeepStack routes, the best; 0 leaves it to the "
        "model's card. Frigate has room for 20.",
    )
    deepstack_label_map: Annotated[tuple[tuple[str, str], ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated name=name"},
        description="Names that the DeepStack routes give to classes in place of their own, such as "
        "truck=car, for clients with a list of their own.",
    )
    deepstack_drop_labels: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra={"allowed": "comma-separated names"},
        description="Classes that the DeepStack routes leave out; Frigate reads no further than the first "
        "name that it does not know.",
    )
    deepstack_upscale: bool = Field(
        default=True,
        json_schema_extra={"allowed": "true, false"},
        description="Whether the DeepStack routes enlarge small images to the model's size, as /detect does; "
        "false is faster, for Frigate's 320 pixels and 100 ms.",
    )
    roboflow_urls: bool = Field(
        default=False,
        json_schema_extra={"allowed": "true, false"},
        description="Whether the Roboflow route fetches images by their address, from public hosts alone; "
        "off, for a server that fetches what strangers name is a way into its network.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment; no .env file and no secrets folder."""
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise ValueError(_unknown(unknown))
        return values

    @field_validator("allowed_origins", "deepstack_drop_labels", mode="before")
    @classmethod
    def _split(cls, values: object) -> object:
        return [value.strip() for value in values.split(",")] if isinstance(values, str) else values

    @field_validator("deepstack_label_map", mode="before")
    @classmethod
    def _split_pairs(cls, pairs: object) -> object:
        if not isinstance(pairs, str):
            return pairs
        split = [tuple(side.strip() for side in pair.split("=")) for pair in pairs.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in split):
            raise ValueError("each must be the name of a class, `=`, and the name to give instead")
        return split


class _Environment(EnvSettingsSource):
    """All RCNN_ variables, those that are no setting too, so that the model can refuse them by name."""

    def __call__(self) -> dict[str, Any]:
        """Field name to text; empty ones are left out, but not an empty list of keys."""
        prefix = PREFIX.lower()  # names come in lower case, as they are compared
        found = {
            name.removeprefix(prefix): value
            for name, value in self.env_vars.items()
            if name.startswith(prefix)
        }
        return {name: value for name, value in found.items() if value or name == "api_keys"}


def explain(error: ValidationError) -> str:
    """What is wrong with the settings, a line for each: the variable, what is wrong, what is allowed."""
    return "\n".join(_explained(one["loc"], one["msg"]) for one in error.errors(include_url=False))


def _explained(place: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not place:
        return message
    name = str(place[0])
    return f"{PREFIX}{name.upper()}: {message} (allowed: {allowed_values(Settings.model_fields[name])})"


def _unknown(names: list[str]) -> str:
    text = "; ".join(_unknown_one(name) for name in names) + "; `rcnn settings` lists them all"
    if any(name.endswith("_service_host") for name in names):
        text += (
            ". Kubernetes sets such variables for a Service whose name begins with rcnn: "
            "say enableServiceLinks: false in the pod's spec"
        )
    return text


def _unknown_one(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f", did you mean {PREFIX}{close[0].upper()}?" if close else ""
    return f"{PREFIX}{name.upper()} is not a setting{hint}"


def allowed_values(field: FieldInfo) -> str:
    """What a setting may be, in words or as its bounds."""
    if isinstance(field.json_schema_extra, dict):
        return str(field.json_schema_extra["allowed"])
    bounds = {
        name: getattr(one, name) for one in field.metadata for name in ("ge", "le") if hasattr(one, name)
    }
    return f"{bounds['ge']} to {bounds['le']}" if bounds else ", ".join(get_args(field.annotation))
