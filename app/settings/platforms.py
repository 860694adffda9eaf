"""What hosting platforms set in a container: Vertex AI its port and routes, SageMaker its port.

RCNN_PORT wins over both ports. Vertex AI's routes have no RCNN_ variables: who chooses them tells Vertex AI.
"""

from dataclasses import dataclass
from typing import Any

PORTS = ("AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT")
HEALTH, PREDICT = "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"
PLATFORM_VARIABLES = (*PORTS, HEALTH, PREDICT)
HIGHEST_PORT = 65535


@dataclass(frozen=True)
class PlatformRoutes:
    """The paths on which Vertex AI asks for readiness and for predictions, where it has told them."""

    health: str | None = None
    predict: str | None = None


def take_port(values: dict[str, Any]) -> None:
    """Use the port of the platform where RCNN_PORT is not set; raises ValueError for one that is none."""
    ports = {name: values.pop(name, None) for name in PORTS}
    name, text = next(((name, text) for name, text in ports.items() if text is not None), ("", None))
    if text is None or values.get("port") is not None:
        return
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= HIGHEST_PORT):
        raise ValueError(
            f"{name}: {text!r} is no port; allowed is 1 to {HIGHEST_PORT}. Set RCNN_PORT in its place"
        )
    values["port"] = int(text)


def take_routes(values: dict[str, Any]) -> PlatformRoutes:
    """The routes of Vertex AI; raises ValueError for one that is no path."""
    return PlatformRoutes(_path(values, HEALTH), _path(values, PREDICT))


def _path(values: dict[str, Any], name: str) -> str | None:
    text = values.pop(name, None)
    if text is None:
        return None
    if not text.startswith("/") or any(character in "{}?#" or character <= " " for character in text):
        raise ValueError(f"{name}: {text!r} is no path such as /predict; allowed is / and a path, no query")
    return str(text)
