"""What is delivered beside the code: image, compose files, Prometheus rules, Makefile, pinned versions."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings.settings import Settings
from app.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
TARGETS = (
    "install",
    "serve",
    "check",
    "test",
    "test-fast",
    "coverage",
    "bench",
    "demo-model",
    "test-gpu",
    "bench-gpu",
    "test-ray",
)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (word, rest), with continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def last_stage() -> dict[str, str]:
    """The image's own instructions; of a repeated one the last counts."""
    instructions = dockerfile()
    start = max(i for i, (word, _) in enumerate(instructions) if word == "FROM")
    return dict(instructions[start:])


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in last_stage()["ENV"].split())


def health_command() -> list[str]:
    """What the image's HEALTHCHECK runs, with this Python in place of the image's."""
    command: list[str] = json.loads(last_stage()["HEALTHCHECK"].partition("CMD")[2])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# --- the image


def test_the_image_is_started_directly_as_a_user_without_rights() -> None:
    stage = last_stage()
    assert stage["USER"] == "10001"
    assert json.loads(stage["CMD"]) == ["rcnn", "serve"]  # exec form: SIGTERM reaches the service itself
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert "rcnn" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_the_image_builds_with_any_builder() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "syntax=" not in text
    assert "--mount" not in text
    assert "<<" not in text
    bases = {rest.split()[0] for word, rest in dockerfile() if word == "FROM"}
    assert bases == {"python:3.11-slim"}


def test_an_edit_of_the_code_does_not_install_torch_again() -> None:
    instructions = [f"{word} {rest}" for word, rest in dockerfile()]
    install = next(
        i for i, text in enumerate(instructions) if "pip install" in text and "requirements.txt" in text
    )
    code = next(i for i, text in enumerate(instructions) if text == "COPY . .")
    assert install < code


def test_the_image_computes_on_openvino_and_reads_videos() -> None:
    [line] = [rest for word, rest in dockerfile() if word == "RUN" and "tomllib" in rest]
    code = shlex.split(line)[2].replace("'/", f"'{ROOT}/")
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = {re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in listed.splitlines()}
    assert {"torch", "fastapi", "openvino", "av", "tenacity"} <= names
    assert not {"pytest", "schemathesis"} & names


def test_the_image_names_only_settings_that_exist() -> None:
    environment = image_environment()
    names = {name.removeprefix("RCNN_").lower() for name in environment if name.startswith("RCNN_")}
    assert names <= set(Settings.model_fields)
    assert environment["RCNN_HOST"] == "0.0.0.0"  # noqa: S104 - inside a container it is the port's publication that decides
    assert environment["RCNN_CACHE_DIR"] == last_stage()["VOLUME"]
    assert environment["MALLOC_ARENA_MAX"] == "1"  # or each thread keeps a heap: 50 MB more with `shapes`


def test_the_build_sees_the_package_and_nothing_else() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "app",
        "client",
        "models",
        "samples",
    }
    assert all((ROOT / name).exists() for name in allowed)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server that answers 200 to /health/ready while its `ready` is true, and 503 otherwise."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ok = self.path == "/health/ready" and getattr(self.server, "ready", True)
            self.send_response(200 if ok else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("ready", "healthy"), [(True, True), (False, False)])
def test_the_image_is_healthy_when_the_service_is_ready(
    server: ThreadingHTTPServer, ready: bool, healthy: bool
) -> None:
    server.ready = ready  # type: ignore[attr-defined]  # a mark of this test
    environment = {"RCNN_PORT": str(server.server_port)}
    done = subprocess.run(health_command(), env=environment, capture_output=True, timeout=60)
    assert (done.returncode == 0) is healthy


# --- compose


def test_compose_has_the_service_its_prometheus_and_where_asked_for_a_grafana() -> None:
    compose = read_yaml("docker-compose.yml")
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert profiles == {"app": None, "prometheus": None, "grafana": ["dashboards"]}
    assert set(compose) == {"services", "volumes"}  # a top-level `name` is unknown to compose v1


def test_compose_names_the_coco_model_and_the_cpu() -> None:
    environment = read_yaml("docker-compose.yml")["services"]["app"]["environment"]
    assert environment["RCNN_MODEL"] == "${RCNN_MODEL:-coco-r50-fpn}"
    assert environment["RCNN_DEVICE"] == "cpu"
    assert {name.removeprefix("RCNN_").lower() for name in environment} <= set(Settings.model_fields)


@pytest.mark.parametrize("name", ["app", "prometheus", "grafana"])
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    service = read_yaml("docker-compose.yml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all("127.0.0.1" in port for port in service["ports"])


def test_the_service_writes_to_tmp_and_to_the_weights_volume_alone() -> None:
    app = read_yaml("docker-compose.yml")["services"]["app"]
    assert app["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert app["volumes"] == [f"weights:{image_environment()['RCNN_CACHE_DIR']}"]


def test_compose_waits_until_the_service_has_drained() -> None:
    app = read_yaml("docker-compose.yml")["services"]["app"]
    assert seconds(app["stop_grace_period"]) > int(app["environment"]["RCNN_DRAIN_SECONDS"])


def test_the_gpu_file_reserves_one_gpu_and_insists_on_it() -> None:
    services = read_yaml("docker-compose.gpu.yml")["services"]
    assert set(services) == {"app"}
    assert services["app"]["environment"] == {"RCNN_DEVICE": "cuda"}
    (device,) = services["app"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_prometheus_starts_after_the_service_with_the_files_of_this_repository() -> None:
    prometheus = read_yaml("docker-compose.yml")["services"]["prometheus"]
    assert prometheus["image"] == "prom/prometheus:v2.42.0"
    assert prometheus["depends_on"] == {"app": {"condition": "service_healthy"}}
    mounts = dict(volume.split(":")[:2] for volume in prometheus["volumes"] if volume.startswith("./"))
    assert all((ROOT / source).is_file() for source in mounts)
    config = read_yaml("docker/prometheus/prometheus.yml")
    assert set(config["rule_files"]) <= set(mounts.values())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"app:{image_environment()['RCNN_PORT']}"]}]


# --- alert rules


def rules() -> list[dict[str, Any]]:
    return [rule for group in read_yaml("docker/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def exported_series() -> set[str]:
    """Every series name that /metrics can have, from the types it declares."""
    body, _ = Metrics().render()
    declared = re.findall(r"^# TYPE (\S+) (\S+)", body.decode(), flags=re.MULTILINE)
    parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    return {name + part for name, kind in declared for part in parts.get(kind, ("",))}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_watches_series_that_exist_and_says_what_it_means(rule: dict[str, Any]) -> None:
    bare = re.sub(r"\{[^}]*\}", "", rule["expr"])
    named = set(re.findall(r"\b(?:rcnn|process|python)_\w+", bare))
    assert named <= exported_series()  # there with several devices in one process
    assert named or "up{" in rule["expr"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


def test_alerts_ask_for_the_job_that_is_scraped() -> None:
    (job,) = read_yaml("docker/prometheus/prometheus.yml")["scrape_configs"]
    asked = {name for rule in rules() for name in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert asked == {job["job_name"]}


def test_every_alert_has_a_test_of_its_own() -> None:
    tests = (ROOT / "docker/prometheus/rules.test.yml").read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in tests] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed here")
def test_the_alerts_fire_when_they_should() -> None:
    command = ["promtool", "test", "rules", "docker/prometheus/rules.test.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
