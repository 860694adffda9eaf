"""What of the environment is a setting: RCNN_ variables, removed ones, OpenTelemetry's and platforms' own."""

import re
from importlib.util import find_spec
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from app.settings.platforms import PLATFORM_VARIABLES

PREFIX = "RCNN_"

REMOVED = {
    "jpeg": "every JPEG is decoded on the decode threads, by libjpeg-turbo",
    "batch_wait_ms": "a batch starts as soon as a device is free",
    "max_tiles": "an image has at most 64 tiles",
    "stream_max_frames": "/detect/stream answers at most 1000 frames of a body",
}
"""Settings of the release before that are ignored with a warning, and what holds in their place."""

RENAMED = {"roboflow_urls": "fetch_urls"}
"""Settings of the release before that are taken with a warning, and their names now."""

OF_CLIENTS = ("url", "api_key")
"""RCNN_URL and RCNN_API_KEY are read by rcnn_client, and may be set where a service starts."""

OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTEL_EXPORTER = "OTEL_TRACES_EXPORTER"
ADDRESS = r"^https?://[^/\s]+(/\S*)?$"


class Environment(EnvSettingsSource):
    """All RCNN_ variables, unknown ones too, so that the settings can refuse them by name."""

    def __call__(self) -> dict[str, Any]:
        """Field name to text; empty ones are left out, but not an empty list of keys."""
        prefix = PREFIX.lower()  # names come in lower case, as they are compared
        found = {
            name.removeprefix(prefix): value
            for name, value in self.env_vars.items()
            if name.startswith(prefix)
        }
        found[OTEL_ENDPOINT] = self._otel_endpoint()
        found |= {name: self.env_vars.get(name.lower()) for name in PLATFORM_VARIABLES}
        return {name: value for name, value in found.items() if value or name == "api_keys"}

    def _otel_endpoint(self) -> str | None:
        if self.env_vars.get(OTEL_EXPORTER.lower()) not in (None, "", "otlp"):
            return None
        return self.env_vars.get(OTEL_ENDPOINT.lower())


class SystemdVariables(BaseSettings):
    """What systemd tells a service that it starts: a socket for messages, and the watchdog's patience."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    notify_socket: str = ""
    watchdog_usec: int = 0
    watchdog_pid: int = 0  # the process that the watchdog watches; 0 is any

    def watchdog_seconds(self, process: int) -> float:
        """The longest time between two signs of life of this process; 0 without a watchdog."""
        return self.watchdog_usec / 1e6 if self.watchdog_pid in (0, process) else 0.0


def take_otel_endpoint(values: dict[str, Any]) -> list[str]:
    """Use OpenTelemetry's own variable where RCNN_OTLP_ENDPOINT is not set; a warning if it cannot be used.

    It may be set for every program of a cluster, so it never stops a start.
    """
    endpoint = values.pop(OTEL_ENDPOINT, None)
    if endpoint is None or "otlp_endpoint" in values:
        return []
    if not re.match(ADDRESS, endpoint):
        return [f"{OTEL_ENDPOINT} is no address such as http://127.0.0.1:4318: no traces are sent"]
    if not tracing_is_installed():
        return [f"{OTEL_ENDPOINT}: no traces are sent without the extra: pip install 'rcnn-serve[tracing]'"]
    values["otlp_endpoint"] = endpoint
    return []


def drop_removed(values: dict[str, Any]) -> list[str]:
    """Leave out the settings that were removed; a warning for each."""
    names = [name for name in REMOVED if values.pop(name, None) is not None]
    return [
        f"{PREFIX}{name.upper()} is no setting any more and is ignored: {REMOVED[name]}" for name in names
    ]


def take_renamed(values: dict[str, Any]) -> list[str]:
    """Use the settings that have another name now; a warning for each."""
    names = [name for name in RENAMED if name in values]
    for name in names:
        value = values.pop(name)
        values.setdefault(RENAMED[name], value)
    return [
        f"{PREFIX}{name.upper()} is now {PREFIX}{RENAMED[name].upper()}, which means the same; set that: the "
        "next release does not read the old name"
        for name in names
    ]


def drop_client_variables(values: dict[str, Any]) -> list[str]:
    """Leave out what rcnn_client reads; a warning where its key may have been meant as the service's."""
    found = [name for name in OF_CLIENTS if values.pop(name, None)]
    if "api_key" not in found or values.get("api_keys"):
        return []
    return [
        "RCNN_API_KEY is read by clients only, and this service asks for no key: set RCNN_API_KEYS for that"
    ]


def tracing_is_installed() -> bool:
    """Whether the extra `tracing` is there."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # of a package that it would lie in
        return False
