"""The manifests fit Kubernetes' schemas, each other, the image and the product; a pod stops as they say."""

import re
import signal
import socket
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes_validate
import pytest

from app.main import LAST_CALLS_SECONDS
from app.server import LAST_ANSWERS_SECONDS
from app.settings.settings import PREFIX, Settings
from models.zoo.catalogue import catalogue
from tests.deploy.test_deploy import exported_series, image_environment, last_stage, read_yaml
from tests.process.test_lifecycle import Start, detect, in_flight, until
from tests.support.fakes import picture
from tests.support.kubernetes import FOLDER, RENDERED, Document, of_kind, pod, rendered, written
from tests.support.process import Program
from tests.support.served import ROOT, Served

OLDEST, NEWEST = "1.29", "1.37"
OTHERS = {"ScaledObject", "PodMonitor", "ServingRuntime", "InferenceService"}  # operators' own kinds
MARGIN = 5  # seconds, for a machine that is slow just then
DEPLOYED = ("base", "overlays/gpu", "overlays/keda", "overlays/own-models", "overlays/production")
OWN = "overlays/own-models"
WITH_KEYS = (OWN, "overlays/production")
KEYS, MODELS, CAPTURES = "/etc/rcnn", "/models", "/captures"  # volumes of the components
POD_NAME = {"fieldRef": {"fieldPath": "metadata.name"}}
ADMIN = {"secretKeyRef": {"name": "rcnn-serve-admin", "key": "RCNN_ADMIN_KEYS"}}


def name_of(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


# --- schemas


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_as_written_fits_the_schema(version: str) -> None:
    for document in written():
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", RENDERED)
def test_every_object_as_rendered_fits_the_schema(name: str) -> None:
    documents = rendered(name)
    assert len({name_of(one) for one in documents}) == len(documents)
    for document in documents:
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, NEWEST, strict=True)


def test_a_misspelt_field_is_noticed() -> None:
    deployment = next(one for one in written() if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 50
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def test_the_kinds_without_a_schema_are_those_of_operators() -> None:
    groups = {one["apiVersion"].partition("/")[0] for one in written() if one["kind"] in OTHERS}
    assert groups == {"keda.sh", "monitoring.coreos.com", "serving.kserve.io"}


def test_every_kustomization_is_rendered_or_part_of_one() -> None:
    texts = {path.parent: path.read_text() for path in FOLDER.rglob("kustomization.yaml")}
    for folder in texts:
        name = str(folder.relative_to(FOLDER))
        assert name in RENDERED or any(f"../../{name}" in text for text in texts.values()), name


# --- the pod: its user, its rights, its settings


@pytest.mark.parametrize("name", RENDERED)
def test_the_pod_has_no_rights(name: str) -> None:
    own, container = pod(name).spec, pod(name).container
    secured = own["securityContext"] | container["securityContext"]
    assert secured["runAsNonRoot"] is True
    assert str(secured["runAsUser"]) == last_stage()["USER"]
    assert secured["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert own["automountServiceAccountToken"] is False
    assert own["enableServiceLinks"] is False


@pytest.mark.parametrize("name", RENDERED)
def test_what_the_image_writes_to_is_a_volume(name: str) -> None:
    volumes = pod(name).volumes()
    image = image_environment()
    own = {KEYS} if name in WITH_KEYS else set()
    own |= {MODELS, CAPTURES} if name == OWN else set()
    assert set(volumes) == {image["RCNN_CACHE_DIR"], image["HOME"]} | own
    assert {one["mountPath"] for one in pod(name).mounts if one.get("readOnly")} == own - {CAPTURES}
    shared = name == "overlays/production"
    kinds = {path: set(volume) - {"name"} for path, volume in volumes.items()}
    assert kinds[image["HOME"]] == {"emptyDir"}
    assert kinds[image["RCNN_CACHE_DIR"]] == {"persistentVolumeClaim" if shared else "emptyDir"}


@pytest.mark.parametrize("name", RENDERED)
def test_the_pods_variables_are_settings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read as the program would read them; what the cluster fills in has the shape of its source."""
    this = pod(name)
    threads = int(this.container["resources"]["requests"]["cpu"])
    for source, value in this.sources.items():
        assert value in (POD_NAME, ADMIN) or value["resourceFieldRef"]["resource"] == "requests.cpu", source
        monkeypatch.setenv(source, "chief" if value == ADMIN else str(threads))
    image = {key: value for key, value in image_environment().items() if key.startswith(PREFIX)}
    for key, setting in {**image, **this.settings}.items():
        monkeypatch.setenv(key, setting)
    if name in WITH_KEYS:
        file = Path(this.settings["RCNN_API_KEYS_FILE"])
        assert (str(file.parent), this.volumes()[KEYS]["secret"]["secretName"]) == (KEYS, "rcnn-serve-keys")
        (tmp_path / file.name).write_text("camera=one\n")
        monkeypatch.setenv("RCNN_API_KEYS_FILE", str(tmp_path / file.name))
    settings = Settings()
    assert settings.port == port_of(name)
    assert settings.inference_threads == settings.decode_threads == threads
    assert set(settings.models) <= set(catalogue(None))
    assert (settings.api_keys_file is not None) == (name in WITH_KEYS)
    assert (settings.device == "cuda") == ("nvidia.com/gpu" in this.container["resources"]["limits"])
    assert settings.timeout_ms / 1000 <= settings.drain_seconds  # or accepted requests get no answer


def port_of(name: str) -> int:
    [port] = pod(name).container["ports"]
    return int(port["containerPort"])


def test_the_image_is_this_version_of_the_composes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    image = read_yaml("docker-compose.yml")["services"]["app"]["image"]
    for this in map(pod, RENDERED):
        target = "-cuda" if "nvidia.com/gpu" in this.container["resources"]["limits"] else ""
        assert this.container["image"] == f"{image}:{version}{target}"


# --- the objects around it


@pytest.mark.parametrize("name", DEPLOYED)
def test_everything_selects_the_pods(name: str) -> None:
    documents = rendered(name)
    deployment = of_kind(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    policy = of_kind(documents, "NetworkPolicy")["spec"]
    service = of_kind(documents, "Service")["spec"]
    assert deployment["spec"]["selector"] == {"matchLabels": labels} == policy["podSelector"]
    assert of_kind(documents, "PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": labels}
    assert service["selector"] == labels
    ports = {service["ports"][0]["targetPort"], policy["ingress"][0]["ports"][0]["port"]}
    ports |= {pod(name).container[f"{probe}Probe"]["httpGet"]["port"] for probe in PROBES}
    assert ports == {"http"} == {port["name"] for port in pod(name).container["ports"]}


@pytest.mark.parametrize(
    ("name", "scaler"),
    [
        ("base", "HorizontalPodAutoscaler"),
        ("overlays/gpu", None),
        ("overlays/keda", "ScaledObject"),
        (OWN, "HorizontalPodAutoscaler"),
    ],
)
def test_one_autoscaler_alone_sets_the_replicas(name: str, scaler: str | None) -> None:
    documents = rendered(name)
    kinds = {one["kind"] for one in documents} & {"HorizontalPodAutoscaler", "ScaledObject"}
    assert kinds == ({scaler} if scaler else set())
    deployment = of_kind(documents, "Deployment")
    assert ("replicas" in deployment["spec"]) == (scaler is None)
    if scaler:
        target = of_kind(documents, scaler)["spec"]["scaleTargetRef"]
        assert target["name"] == deployment["metadata"]["name"]


def test_keda_asks_for_series_that_exist_by_the_label_that_the_pod_monitor_gives() -> None:
    documents = rendered("overlays/keda")
    triggers = of_kind(documents, "ScaledObject")["spec"]["triggers"]
    names = {name for one in triggers for name in re.findall(r"rcnn_\w+", one["metadata"]["query"])}
    assert names == {"rcnn_queue_depth", "rcnn_predicted_wait_seconds", "rcnn_batch_duration_seconds_sum"}
    assert names <= exported_series()
    monitor = of_kind(documents, "PodMonitor")["spec"]
    labels = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"] == labels
    assert monitor["podMetricsEndpoints"][0]["port"] == "http"
    for trigger in triggers:
        assert float(trigger["metadata"]["threshold"]) > 0
        assert f'job="{labels[monitor["jobLabel"]]}"' in trigger["metadata"]["query"]


def test_kserve_runs_the_card_that_the_inference_service_is_named_after() -> None:
    documents = rendered("kserve")
    runtime, service = of_kind(documents, "ServingRuntime"), of_kind(documents, "InferenceService")
    model = service["spec"]["predictor"]["model"]
    formats = [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert pod("kserve").container["name"] == "kserve-container"  # which KServe looks for
    assert pod("kserve").settings["RCNN_MODEL"] == service["metadata"]["name"]


# --- probes and grace, on the app and on the real process

PROBES = ("startup", "readiness", "liveness")


async def test_probes_ask_for_routes_that_answer(served: Served) -> None:
    for name in RENDERED:
        for probe in PROBES:
            assert (await served.client.get(pod(name).path(probe))).status_code == 200, (name, probe)
    metrics = await served.client.get("/metrics")
    assert "rcnn_predicted_wait_seconds 0.0" in metrics.text.splitlines()  # which KEDA needs from the start


@pytest.mark.parametrize("name", RENDERED)
def test_the_grace_period_holds_the_pause_the_drain_and_the_last_answers(name: str) -> None:
    assert pod(name).spare >= LAST_ANSWERS_SECONDS + LAST_CALLS_SECONDS + MARGIN
    startup = pod(name).container["startupProbe"]
    healthcheck = re.search(r"--start-period=(\d+)m", last_stage()["HEALTHCHECK"])
    assert healthcheck
    assert startup["periodSeconds"] * startup["failureThreshold"] >= int(healthcheck[1]) * 60


def probed(program: Program) -> dict[str, set[int]]:
    """What the probes of the pods get."""
    paths = {probe: {pod(name).path(probe) for name in ("base", "kserve")} for probe in PROBES}
    return {
        probe: {program.client.get(path).status_code for path in probe_paths}
        for probe, probe_paths in paths.items()
    }


def test_a_pod_is_started_when_it_has_loaded_and_not_ready_when_it_ends(start: Start) -> None:
    pods = [pod("base"), pod("kserve")]
    [drain_seconds] = {pod.settings["RCNN_DRAIN_SECONDS"] for pod in pods}
    program = start("--loading", "--seconds", "1.5", drain_seconds=drain_seconds)
    assert probed(program) == {"startup": {503}, "readiness": {503}, "liveness": {200}}
    program.process.send_signal(signal.SIGUSR1)
    program.logged("after the start of the process")
    assert probed(program) == {"startup": {200}, "readiness": {200}, "liveness": {200}}
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(detect, program)
        until(lambda: in_flight(program) == 1, "it is accepted")
        terminated = time.monotonic()
        program.terminate()
        until(lambda: probed(program)["readiness"] == {503}, "it is not ready")
        assert probed(program)["liveness"] == {200}
        assert in_flight(program) == 1
        assert accepted.result().status_code == 200
    assert program.ended() == 0
    assert time.monotonic() - terminated < min(pod.spare for pod in pods)  # a drain ends with its last answer


def test_a_stuck_batch_and_a_stuck_upload_end_within_the_spare_seconds(start: Start) -> None:
    """From the drain's end it is the same for any drain."""
    drain = 0.5
    program = start("--seconds", "60", drain_seconds=str(drain))
    program.logged("after the start of the process")
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", program.port)) as upload:
        accepted = pool.submit(detect, program)
        until(lambda: in_flight(program) == 1, "it is accepted")
        begin_upload(upload)
        terminated = time.monotonic()
        program.terminate()
        assert program.ended(drain + pod("base").spare) == 0
        assert time.monotonic() - terminated < drain + pod("base").spare - MARGIN
        assert accepted.result().json()["code"] == "draining"


def begin_upload(connection: socket.socket) -> None:
    """Send the head and the first bytes of a request."""
    image = picture()
    head = (
        f"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(image)}"
    )
    connection.sendall(head.encode() + b"\r\nExpect: 100-continue\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the service waits for the body
    connection.sendall(image[:10])
