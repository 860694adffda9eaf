"""The manifests in docker/kubernetes: as they lie there, as kubectl renders them, and their pods."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pytest
import yaml

from tests.support.served import ROOT

FOLDER = ROOT / "docker/kubernetes"
RENDERED = (
    *("base", "overlays/gpu", "overlays/keda", "overlays/own-models", "overlays/production"),
    "kserve",
)
Document = dict[str, Any]


def written() -> Iterator[Document]:
    """Every object that stands complete in a file of its own; patches and kustomizations are none."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


@cache
def rendered(name: str) -> tuple[Document, ...]:
    """The objects that `kubectl apply -k` would send; the test is skipped where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: it renders the manifests")
    done = subprocess.run([kubectl, "kustomize", FOLDER / name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(documents: tuple[Document, ...], kind: str) -> Document:
    """The one object of a kind."""
    [found] = [one for one in documents if one["kind"] == kind]
    return found


@dataclass(frozen=True)
class Pod:
    """What a kubelet would run: the pod's own fields, its one container, and its settings."""

    spec: Document
    container: Document
    settings: dict[str, str]  # those with a value in the manifests

    @cached_property
    def sources(self) -> dict[str, Document]:
        """Variables whose value comes from the cluster: name to valueFrom."""
        return {one["name"]: one["valueFrom"] for one in self.container["env"] if "valueFrom" in one}

    @property
    def grace(self) -> float:
        """Seconds from the decision to end the pod until it is killed."""
        return float(self.spec["terminationGracePeriodSeconds"])

    @property
    def pause(self) -> float:
        """Seconds of them in which it still takes requests; no preStop is needed for that."""
        assert "lifecycle" not in self.container
        return float(self.settings["RCNN_LINGER_SECONDS"])

    @property
    def spare(self) -> float:
        """Seconds that are left for all else when the pause and a whole drain are over."""
        return self.grace - self.pause - float(self.settings["RCNN_DRAIN_SECONDS"])

    @property
    def mounts(self) -> list[Document]:
        """The mounts of the container."""
        return list(self.container["volumeMounts"])

    def path(self, probe: str) -> str:
        """What a probe asks for: `startup`, `readiness` or `liveness`."""
        return str(self.container[f"{probe}Probe"]["httpGet"]["path"])

    def volumes(self) -> dict[str, Document]:
        """Mount path to volume."""
        mounted = {one["name"]: one["mountPath"] for one in self.mounts}
        return {mounted[one["name"]]: one for one in self.spec["volumes"]}


def pod(name: str) -> Pod:
    """The pod of a rendered kustomization; of KServe's as KServe would put it together."""
    documents = rendered(name)
    if name == "kserve":
        return _kserve_pod(documents)
    spec = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    config = of_kind(documents, "ConfigMap")
    assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    return Pod(spec, container, config["data"] | values)


def _kserve_pod(documents: tuple[Document, ...]) -> Pod:
    runtime = of_kind(documents, "ServingRuntime")["spec"]
    service = of_kind(documents, "InferenceService")
    [container] = runtime["containers"]
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    name = service["metadata"]["name"]
    settings = {key: re.sub(r"\{\{\.Name\}\}", name, value) for key, value in values.items()}
    spec = {**service["spec"]["predictor"], "volumes": runtime["volumes"]}
    return Pod(spec, container, settings)
