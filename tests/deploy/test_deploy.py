"""What is delivered beside the code: image, compose files, Prometheus rules, Makefile, pinned versions."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from tests.support.served import ROOT
from tests.support.servers.http_server import http_server


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def dockerfile() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: (word, rest), with continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined if line)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name, FROM first, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in dockerfile()[1:]:
        if word == "FROM":
            found[rest.split()[2]] = []
        list(found.values())[-1].append((word, rest))
    return found


def stage(name: str) -> dict[str, str]:
    """The instructions of a stage and of those that it is built from; of a repeated one the last counts."""
    own = stages()[name]
    base = own[0][1].split()[0]
    return (stage(base) if base in stages() else {}) | dict(own)


def last_stage() -> dict[str, str]:
    """The instructions of the default image."""
    return stage(list(stages())[-1])


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in last_stage()["ENV"].split())


def health_command() -> list[str]:
    """What the image's HEALTHCHECK runs, with this Python in place of the image's."""
    command: list[str] = json.loads(last_stage()["HEALTHCHECK"].partition("CMD")[2])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


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
    bases = {rest.split()[0] for word, rest in dockerfile() if word == "FROM"} - set(stages())
    assert bases == {"${BASE}"}  # a release passes a digest
    assert dockerfile()[0] == ("ARG", "BASE=python:3.11-slim")


def test_the_image_for_the_cpu_is_the_default_and_each_has_its_own_packages() -> None:
    """The CPU's has no Triton; the GPU's keeps it, and may be given a compiler (docs/operations.md)."""
    assert list(stages())[-2:] == ["cuda", "cpu"]
    steps = {name: str(stages()[f"dependencies{name}"]) for name in ("", "-cpu")}
    assert "uninstall --quiet --yes triton" in steps["-cpu"]
    assert "triton" not in steps[""]
    for name, packages in (("cpu", "dependencies-cpu"), ("cuda", "dependencies")):
        assert ("COPY", f"--from={packages} /opt/venv /opt/venv") in stages()[name]
        assert ("COPY", f"--from=product-{name} /opt/rcnn /opt/rcnn") in stages()[name]
    assert "NVIDIA_DRIVER_CAPABILITIES" in stage("cuda")["ENV"]


def test_an_edit_of_the_code_does_not_install_torch_again() -> None:
    assert not any(word == "COPY" and rest == ". ." for word, rest in stages()["dependencies"])
    [install] = [rest for _, rest in stages()["dependencies"] if "-r requirements.txt" in rest]
    assert " torch torchvision" in install
    assert stages()["product"][:2] == [("FROM", "dependencies AS product"), ("COPY", ". .")]


@pytest.mark.parametrize(
    ("index", "options"), [("", []), ("file:///cu126", ["-i", "file:///cu126"])], ids=["none", "one"]
)
def test_torch_can_come_from_an_index_of_an_older_cuda(index: str, options: list[str]) -> None:
    """The step of the build, with a pip that prints its arguments."""
    [install] = [rest for word, rest in dockerfile() if word == "RUN" and "requirements.txt" in rest]
    [step] = [part for part in install.split("&&") if "torch torchvision" in part]
    script = f'pip() {{ printf "%s\\n" "$@"; }}; {step}'
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"TORCH_INDEX_URL": index}, capture_output=True, text=True, check=True
    )
    pinned = ["-c", "constraints.txt", "torch", "torchvision"]
    assert done.stdout.split() == ["install", "--quiet", *options, *pinned]
    assert ("ARG", "TORCH_INDEX_URL") in dockerfile()


def test_every_file_of_the_build_but_torchs_has_a_checked_hash() -> None:
    [install] = [rest for word, rest in dockerfile() if word == "RUN" and "requirements.txt" in rest]
    [product] = [rest for word, rest in dockerfile() if word == "RUN" and "--target" in rest]
    without = [part for part in install.split("&&") if "--require-hashes --no-deps" not in part]
    assert [part.split("constraints.txt")[1].split() for part in without] == [["torch", "torchvision"]]
    assert {"--no-deps", "--no-build-isolation"} <= set(product.split())
    for name in ("requirements.txt", "sbom-requirements.txt"):
        pinned = re.split(r"\n(?=\w)", (ROOT / "docker" / name).read_text().strip())
        assert all("==" in one and "--hash=sha256:" in one for one in pinned)


def test_the_docs_name_the_sbom_where_the_build_writes_it() -> None:
    [written] = set(re.findall(r"cyclonedx-py environment .* -o (\S+) ", (ROOT / "Dockerfile").read_text()))
    assert f"cat {written}" in (ROOT / "docs/containers.md").read_text()


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)==([^ ;]+)", (ROOT / "docker" / name).read_text()))


def test_the_locked_versions_are_the_tested_ones_and_complete() -> None:
    """After a change of the dependencies: make lock."""
    tested = dict(re.findall(r"(?m)^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text()))
    for name, argument in (("requirements.txt", ""), ("sbom-requirements.txt", "sbom")):
        program = [sys.executable, "docker/requirements.py", *argument.split()]
        listed = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        pinned = locked(name)
        for requirement in map(Requirement, listed.splitlines()):
            assert requirement.specifier.contains(pinned[requirement.name]), requirement.name
        assert {one: version for one, version in pinned.items() if tested.get(one, version) != version} == {}


def test_the_image_computes_on_openvino_reads_videos_and_speaks_grpc() -> None:
    assert {"fastapi", "openvino", "av", "grpcio", "protobuf", "tenacity"} <= set(locked("requirements.txt"))
    assert not {"torch", "pytest", "schemathesis"} & set(locked("requirements.txt"))


def test_the_image_names_only_settings_that_exist() -> None:
    environment = image_environment()
    names = {name.removeprefix("RCNN_").lower() for name in environment if name.startswith("RCNN_")}
    assert names <= set(Settings.model_fields)
    assert environment["RCNN_HOST"] == "0.0.0.0"  # noqa: S104 - inside a container it is the port's publication that decides
    assert "RCNN_PORT" not in environment  # it would win over the port that a platform sets
    assert last_stage()["EXPOSE"] == str(Settings().port)
    assert environment["RCNN_CACHE_DIR"] == last_stage()["VOLUME"]
    assert environment["MALLOC_ARENA_MAX"] == "1"  # or each thread keeps a heap: 50 MB more with `shapes`


def test_the_build_sees_the_package_and_nothing_else() -> None:
    text = (ROOT / ".dockerignore").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    project = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    locks = {"docker/requirements.txt", "docker/sbom-requirements.txt"}
    assert allowed == project | locks | {"app", "client", "models"}
    assert all((ROOT / name).exists() for name in allowed)


def test_the_image_is_healthy_when_the_service_is_ready() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status if handler.path == "/health/ready" else 404)
        handler.end_headers()

    with http_server(answer) as port:
        for status, variable in ((200, "RCNN_PORT"), (200, "SAGEMAKER_BIND_TO_PORT"), (503, "AIP_HTTP_PORT")):
            environment = {variable: str(port)}
            done = subprocess.run(health_command(), env=environment, capture_output=True, timeout=60)
            assert (done.returncode == 0) is (status == 200)


# --- compose


def test_compose_has_the_service_a_prometheus_and_by_profile_a_grafana() -> None:
    compose = read_yaml("docker-compose.yml")
    assert set(compose) == {"services", "volumes"}  # a top-level `name` is unknown to compose v1
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert profiles == {"app": None, "prometheus": None, "grafana": ["dashboards"]}
    for service in compose["services"].values():  # no more rights than it needs
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all("127.0.0.1" in port for port in service["ports"])


def test_compose_bounds_memory_and_processes_of_every_service() -> None:
    services = read_yaml("docker-compose.yml")["services"]
    for service in services.values():
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert service["pids_limit"] >= 256
    assert services["app"]["pids_limit"] >= 1024  # threads count: decoders, torch, OpenVINO


def test_compose_passes_the_keys_of_the_shell() -> None:
    environment = read_yaml("docker-compose.yml")["services"]["app"]["environment"]
    assert [environment[name] for name in ("RCNN_API_KEYS", "RCNN_ADMIN_KEYS")] == [None, None]


def test_compose_comes_up_without_a_network_and_waits_for_its_drain() -> None:
    app = read_yaml("docker-compose.yml")["services"]["app"]
    environment = app["environment"]
    assert environment["RCNN_MODEL"] == "${RCNN_MODEL:-auto}"
    assert app["build"]["target"] == "cpu"
    assert app["build"]["args"] == {"TORCH_INDEX_URL": "${TORCH_INDEX_URL:-}"}
    assert environment["RCNN_DEVICE"] == "cpu"
    assert {name.removeprefix("RCNN_").lower() for name in environment} <= set(Settings.model_fields)
    assert app["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert app["volumes"] == [f"weights:{image_environment()['RCNN_CACHE_DIR']}"]
    assert int(app["stop_grace_period"].removesuffix("s")) > int(environment["RCNN_DRAIN_SECONDS"])


def test_the_gpu_file_reserves_one_gpu_and_insists_on_it() -> None:
    services = read_yaml("docker-compose.gpu.yml")["services"]
    assert set(services) == {"app"}
    assert services["app"]["environment"] == {"RCNN_DEVICE": "cuda"}
    assert services["app"]["build"]["target"] == "cuda"
    assert services["app"]["image"] != read_yaml("docker-compose.yml")["services"]["app"]["image"]
    assert services["app"]["build"]["args"] == {"TORCH_INDEX_URL": "${TORCH_INDEX_URL:-}"}
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
    assert job["static_configs"] == [{"targets": [f"app:{Settings().port}"]}]


# --- alert rules


def rules() -> list[dict[str, Any]]:
    return [rule for group in read_yaml("docker/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def exported_series() -> set[str]:
    """Every series name that /metrics can have, from the types it declares."""
    body, _ = Metrics().render()
    declared = re.findall(r"^# TYPE (\S+) (\S+)", body.decode(), flags=re.MULTILINE)
    parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    return {name + part for name, kind in declared for part in parts.get(kind, ("",))}


def test_alerts_watch_series_that_exist_and_describe_them() -> None:
    for rule in rules():
        bare = re.sub(r"\{[^}]*\}", "", rule["expr"])
        named = set(re.findall(r"\b(?:rcnn|process|python)_\w+", bare))
        assert named <= exported_series()  # there with several devices in one process
        assert named or "up{" in rule["expr"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_alerts_name_the_job_that_is_scraped_and_have_a_test_each() -> None:
    (job,) = read_yaml("docker/prometheus/prometheus.yml")["scrape_configs"]
    jobs = {name for rule in rules() for name in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert jobs == {job["job_name"]}
    tests = (ROOT / "docker/prometheus/rules.test.yml").read_text()
    assert [rule["alert"] for rule in rules() if rule["alert"] not in tests] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed here")
def test_the_alerts_fire_when_they_should() -> None:
    command = ["promtool", "test", "rules", "docker/prometheus/rules.test.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
