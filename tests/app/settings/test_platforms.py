"""The variables of Vertex AI and SageMaker, which stand in for RCNN_ variables that are not set."""

import pytest

from app.settings.settings import Settings
from tests.app.settings.test_settings import refusal

VERTEX, SAGEMAKER = "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"
PORTS: dict[str, tuple[dict[str, str], int]] = {
    "none": ({}, 8000),
    "of Vertex AI": ({VERTEX: "8080"}, 8080),
    "of SageMaker": ({SAGEMAKER: "8081"}, 8081),
    "RCNN_PORT wins": ({"RCNN_PORT": "9000", VERTEX: "8080", SAGEMAKER: "http"}, 9000),
    "empty ones do not count": ({"RCNN_PORT": "", VERTEX: "", SAGEMAKER: "8081"}, 8081),
}


@pytest.mark.parametrize("name", PORTS)
def test_the_port_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variables, port = PORTS[name]
    for variable, text in variables.items():
        monkeypatch.setenv(variable, text)
    settings = Settings()
    assert settings.port == port
    assert settings.warnings == ()
    assert (settings.platform_routes.health, settings.platform_routes.predict) == (None, None)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        (VERTEX, "http", "1 to 65535"),
        (SAGEMAKER, "0", "1 to 65535"),
        ("AIP_HEALTH_ROUTE", "health", "no path"),
        ("AIP_PREDICT_ROUTE", "/a?b=1", "no path"),
    ],
)
def test_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str, allowed: str) -> None:
    shown = refusal(monkeypatch, **{name: text})
    assert name in shown
    assert text in shown
    assert allowed in shown
