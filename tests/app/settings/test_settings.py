"""Settings: read from RCNN_ variables, bounded, frozen; whatever is wrong is named with what is allowed."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from app import version
from app.settings.environment import REMOVED, RENAMED
from app.settings.settings import Settings, explain
from app.settings.table import settings_table

DEVICES = "auto, cpu, cuda, cuda:N, or up to 16 devices with commas"
KEYS = "comma-separated keys"
ORIGINS = "comma-separated origins such as https://example.org, or *"
PROXIES = "comma-separated addresses and networks such as 10.0.0.0/8, or *"
HOSTS = "comma-separated names such as detect.example.org, or *"
DEFAULTS = {
    "MODEL": "auto",
    "MAX_LOADED_MODELS": 0,
    "LOAD_ON_REQUEST": False,
    "MODEL_ALIASES": (),
    "MODEL_DIR": None,
    "CACHE_DIR": Path.home() / ".cache" / "rcnn-serve",
    "WEIGHTS_MIRROR": None,
    "DEVICE": "auto",
    "ENGINE": "auto",
    "PRECISION": "auto",
    "DEVICE_MEMORY": 1.0,
    "API_KEYS": (),
    "ADMIN_KEYS": (),
    "API_KEYS_FILE": None,
    "HOST": "127.0.0.1",
    "PORT": 8000,
    "GRPC_PORT": 0,
    "LISTEN": "start",
    "MAX_BATCH": 8,
    "MAX_QUEUE": 64,
    "MAX_QUEUE_BYTES": 512 * 2**20,
    "TIMEOUT_MS": 30_000,
    "MAX_BODY_BYTES": 20 * 2**20,
    "MAX_PIXELS": 50_000_000,
    "TRUNCATED_IMAGES": False,
    "DECODE_THREADS": 0,
    "INFERENCE_THREADS": 0,
    "ALLOWED_ORIGINS": (),
    "ALLOWED_HOSTS": (),
    "MAX_STREAMS": 16,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "text",
    "OTLP_ENDPOINT": None,
    "LINGER_SECONDS": 0.0,
    "DRAIN_SECONDS": 30.0,
    "ROOT_PATH": None,
    "FORWARDED_ALLOW_IPS": (),
    "UDS": None,
    "TLS_CERT": None,
    "TLS_KEY": None,
    "DEEPSTACK_MAX_PREDICTIONS": 0,
    "DEEPSTACK_LABEL_MAP": (),
    "DEEPSTACK_DROP_LABELS": (),
    "DEEPSTACK_UPSCALE": True,
    "FETCH_URLS": False,
    "SHARED_MEMORY": False,
    "LABEL_STUDIO_URL": None,
    "LABEL_STUDIO_TOKEN": None,
    "CAPTURE_DIR": None,
    "CAPTURE_RULES": "score=0-0.7,none",
    "CAPTURE_MAX_BYTES": 1 << 30,
    "CAPTURE_DAYS": 30.0,
    "CAPTURE_EXCEPT": (),
    "STREAM_ADDRESSES": (),
}
"""Every setting of the contract in its order, and its default."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [f"RCNN_{name}" for name in DEFAULTS]
    for name in (*ours, "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The message for a user who sets these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return explain(caught.value)


def test_the_settings_are_those_of_the_contract() -> None:
    assert [row.name for row in settings_table()] == [f"RCNN_{name}" for name in DEFAULTS]
    assert Settings().model_dump() == {name.lower(): default for name, default in DEFAULTS.items()}


def test_the_environment_is_read_when_constructed_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_PORT", "9000")
    monkeypatch.setenv("RCNN_MODEL_DIR", "~/cards")
    assert Settings().port == 9000
    assert Settings().model_dir == Path.home() / "cards"
    assert Settings(port=9001).port == 9001


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RCNN_MODEL_DIR", "", ""),
        ("RCNN_DEVICE", "cuda:1", ""),
        ("RCNN_DEVICE", "cuda:0,cuda:1,cpu", ""),
        ("RCNN_DEVICE", "auto,cpu", DEVICES),
        ("RCNN_DEVICE", "cpu,", DEVICES),
        ("RCNN_DEVICE", ",".join(["cpu"] * 17), DEVICES),
        ("RCNN_DEVICE", "gpu", DEVICES),
        ("RCNN_DEVICE", "cuda:1\n", DEVICES),
        ("RCNN_ENGINE", "tensorrt", "auto, torch, openvino"),
        ("RCNN_PRECISION", "fp64", "auto, fp32, fp16, bf16, int8"),
        ("RCNN_DEVICE_MEMORY", "0.4", ""),
        ("RCNN_DEVICE_MEMORY", "0", "a share above 0, up to 1"),
        ("RCNN_DEVICE_MEMORY", "1.1", "a share above 0, up to 1"),
        ("RCNN_DEVICE_MEMORY", "nan", "a share above 0, up to 1"),
        ("RCNN_PORT", "65535", ""),
        ("RCNN_PORT", "65536", "0 to 65535"),
        ("RCNN_PORT", "http", "0 to 65535"),
        ("RCNN_MAX_BATCH", "0", "1 to 128"),
        ("RCNN_MAX_QUEUE", "-1", "1 to 10000"),
        ("RCNN_MAX_PIXELS", "nan", "4096 to 500000000"),
        ("RCNN_LOG_FORMAT", "xml", "text, json"),
        ("RCNN_OTLP_ENDPOINT", "127.0.0.1:4318", "an address such as http://127.0.0.1:4318"),
        ("RCNN_ALLOWED_HOSTS", "detect.example.org, 10.0.0.7,[::1],*", ""),
        ("RCNN_ALLOWED_HOSTS", "a.example,http://b.example", HOSTS),
        ("RCNN_ALLOWED_HOSTS", "a.example:80", HOSTS),
        ("RCNN_ALLOWED_HOSTS", "a.example,", HOSTS),
        ("RCNN_ALLOWED_ORIGINS", "https://a.example, http://[::1]:8080/,capacitor://localhost,*", ""),
        ("RCNN_ALLOWED_ORIGINS", "a.example", ORIGINS),
        ("RCNN_ALLOWED_ORIGINS", "https://a.example/page", ORIGINS),
        ("RCNN_ALLOWED_ORIGINS", "null", ORIGINS),
        ("RCNN_FORWARDED_ALLOW_IPS", "127.0.0.1, 10.0.0.0/8,::1", ""),
        ("RCNN_FORWARDED_ALLOW_IPS", "proxy", PROXIES),
        ("RCNN_DEEPSTACK_MAX_PREDICTIONS", "20", ""),
        ("RCNN_DEEPSTACK_MAX_PREDICTIONS", "1001", "0 to 1000"),
        ("RCNN_DEEPSTACK_LABEL_MAP", "truck = car,sports ball=ball", ""),
        ("RCNN_DEEPSTACK_LABEL_MAP", "truck", "comma-separated name=name"),
        ("RCNN_DEEPSTACK_LABEL_MAP", "truck=", "comma-separated name=name"),
        ("RCNN_DEEPSTACK_LABEL_MAP", "a=b=c", "comma-separated name=name"),
        ("RCNN_DEEPSTACK_DROP_LABELS", "kite, disc", ""),
        ("RCNN_DEEPSTACK_UPSCALE", "false", ""),
        ("RCNN_DEEPSTACK_UPSCALE", "maybe", "true, false"),
        ("RCNN_FETCH_URLS", "true", ""),
        ("RCNN_FETCH_URLS", "2", "true, false"),
        ("RCNN_API_KEYS", "one,two", ""),
        ("RCNN_API_KEYS", "", KEYS),
        ("RCNN_API_KEYS", "one,,two", KEYS),
        ("RCNN_API_KEYS", "one, ", KEYS),
        ("RCNN_API_KEYS", "two words", KEYS),
        ("RCNN_API_KEYS", "schlüssel", KEYS),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    if not allowed:
        monkeypatch.setenv(name, value)
        Settings()
        return
    text = refusal(monkeypatch, **{name: value})
    assert text.startswith(f"{name}: ")
    assert text.endswith(f"(allowed: {allowed})")


def test_every_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(refusal(monkeypatch, RCNN_PORT="x", RCNN_MAX_BATCH="0").splitlines()) == 2


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    for name in DEFAULTS:
        if name != "API_KEYS":
            monkeypatch.setenv(f"RCNN_{name}", "")
    assert Settings() == defaults


def test_an_unknown_variable_is_refused_with_the_closest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, RCNN_MAX_BACH="4", RCNN_XYZZY="")
    assert "RCNN_MAX_BACH is not a setting, did you mean RCNN_MAX_BATCH?" in text
    assert "`rcnn settings`" in text


def test_an_unknown_argument_is_refused_too() -> None:
    arguments: dict[str, Any] = {"max_bach": 4}
    with pytest.raises(ValidationError, match="RCNN_MAX_BACH is not a setting, did you mean RCNN_MAX_BATCH"):
        Settings(**arguments)


def test_the_variables_of_a_kubernetes_service_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "enableServiceLinks: false" in refusal(monkeypatch, RCNN_SERVE_SERVICE_HOST="10.0.0.1")
    monkeypatch.delenv("RCNN_SERVE_SERVICE_HOST")
    assert "enableServiceLinks" not in refusal(monkeypatch, RCNN_MODLE="shapes")


def test_a_removed_setting_is_ignored_with_a_warning_that_says_what_holds_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RCNN_MAX_TILES", "1025")
    settings = Settings(batch_wait_ms=5, port=1)  # type: ignore[call-arg]  # it is no field any more
    tiles, wait = sorted(settings.warnings, reverse=True)
    assert tiles == "RCNN_MAX_TILES is no setting any more and is ignored: an image has at most 64 tiles"
    assert wait.startswith("RCNN_BATCH_WAIT_MS is no setting any more")
    assert settings.port == 1
    assert not REMOVED.keys() & Settings.model_fields.keys()
    monkeypatch.setenv("RCNN_MAX_TILES", "")
    assert Settings().warnings == ()


def test_the_variables_of_the_client_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_URL", "http://127.0.0.1:9")
    assert Settings().warnings == ()
    monkeypatch.setenv("RCNN_API_KEY", "k")
    (warning,) = Settings().warnings
    assert "set RCNN_API_KEYS" in warning
    monkeypatch.setenv("RCNN_API_KEYS", "k")
    assert Settings().warnings == ()


def test_a_renamed_setting_means_the_same_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_ROBOFLOW_URLS", "true")
    assert Settings().fetch_urls is True
    assert (
        Settings().warnings[0].startswith("RCNN_ROBOFLOW_URLS is now RCNN_FETCH_URLS, which means the same")
    )
    assert Settings(fetch_urls=False).fetch_urls is False
    assert not RENAMED.keys() & Settings.model_fields.keys()


def test_opentelemetrys_own_variable_counts_where_ours_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4318")
    assert (Settings().otlp_endpoint, Settings().warnings) == ("http://theirs:4318", ())
    assert Settings(otlp_endpoint="http://ours:4318").otlp_endpoint == "http://ours:4318"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert Settings().otlp_endpoint is None


def test_opentelemetrys_own_variable_never_stops_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")
    assert (Settings().otlp_endpoint, "no traces are sent" in Settings().warnings[0]) == (None, True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)  # also if it is loaded
    assert (Settings().otlp_endpoint, "rcnn-serve[tracing]" in Settings().warnings[0]) == (None, True)


def test_other_programs_variables_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN", "1")
    monkeypatch.setenv("MY_RCNN_PORT", "1")
    assert Settings().port == 8000


def test_no_home_is_a_fault_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, RCNN_CACHE_DIR="~nobody-by-this-name/cache")
    assert text.startswith("RCNN_CACHE_DIR: ")
    assert "without ~" in text


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert version() == project["version"]


def test_no_validator_takes_the_place_of_another() -> None:
    """The parts of `Settings` are its bases: of two validators of one name only one would run."""
    parts = [base for base in Settings.__mro__ if issubclass(base, BaseSettings)]
    names = [
        name for base in parts for name in base.__pydantic_decorators__.field_validators if name in vars(base)
    ]
    assert len(names) > 5
    assert sorted(names) == sorted(set(names))
