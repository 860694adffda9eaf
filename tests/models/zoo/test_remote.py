"""Weights by address: mirrors, the Hugging Face hub and S3, against a server here and a storage in memory."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from models.zoo.cards import Card
from models.zoo.download import Downloads, PublishedFile, WeightsError, fetch, sha256_of
from models.zoo.weights import published_file
from tests.support.servers.http_server import http_server
from tests.support.servers.weights_server import BODY, DIGEST, WeightsServer, resumes, sends

HUB_FILE = "hf://crab/sea/weights/model.safetensors"
OBJECT = "s3://bucket/folder/model.pth"


def source(weights: str, sha256: str | None = None) -> PublishedFile:
    """What a card with these weights asks for."""
    labels = ("background", "crab")
    found = published_file(
        Card(name="sea", architecture="small", weights=weights, sha256=sha256, labels=labels)
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("weights", "mirror", "path"),
    [
        ("https://a.example/m/w.pth?v=2", "http://127.0.0.1:{port}", "/m/w.pth?v=2"),
        ("https://a.example/m/w.pth", "http://127.0.0.1:{port}/copies/", "/copies/m/w.pth"),
        ("https://a.example/m/w.pth", "http://127.0.0.1:{port}/{{host}}", "/a.example/m/w.pth"),
        ("hf://crab/sea@v1.0/model.pth", "http://127.0.0.1:{port}", "/crab/sea/resolve/v1.0/model.pth"),
        (HUB_FILE, "http://127.0.0.1:{port}/hub", "/hub/crab/sea/resolve/main/weights/model.safetensors"),
        (
            "torchvision:FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
            "http://127.0.0.1:{port}/{{host}}",
            "/download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        ),
    ],
)
def test_a_mirror_takes_the_place_of_the_host(
    server: WeightsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    mirror: str,
    path: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    server.answers[path] = sends(BODY)
    wanted = PublishedFile(source(weights).url, "w.pth", DIGEST)
    fetched = fetch(wanted, tmp_path, Downloads(mirror.format(port=server.port)))
    assert fetched.read_bytes() == BODY
    assert "Authorization" not in server.requests[0]


def test_the_hub_gets_the_token(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{server.port}/{{repo_id}}/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setenv("HF_TOKEN", "secret")
    server.answers["/crab/sea/main/weights/model.safetensors"] = resumes(BODY)
    assert fetch(source(HUB_FILE, DIGEST), tmp_path).read_bytes() == BODY
    assert server.requests[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("weights", "status", "advice"),
    [
        ("https://a.example/w.pth?key=secret", 401, "401 Unauthorized. Give an address that needs no login"),
        ("https://a.example/w.pth?key=secret", 404, "404 Not Found. Check the address"),
        (HUB_FILE, 403, "403 Forbidden. Set HF_TOKEN to a token of an account that may read it"),
    ],
)
def test_a_refusal_says_what_to_do(
    server: WeightsServer, tmp_path: Path, weights: str, status: int, advice: str
) -> None:
    for path in ("/w.pth?key=secret", "/crab/sea/resolve/main/weights/model.safetensors"):
        server.answers[path] = sends(b"", status=status)
    with pytest.raises(WeightsError, match=advice) as refusal:
        fetch(source(weights), tmp_path, Downloads(f"http://127.0.0.1:{server.port}"))
    assert "secret" not in str(refusal.value)
    assert "or put the file at" in str(refusal.value)


def test_names_in_the_cache_tell_addresses_apart() -> None:
    names = {
        source(weights).file_name
        for weights in ("https://a.example/w.pth", "https://b.example/w.pth", "s3://bucket/w.pth")
    }
    assert len(names) == 3
    assert all(name.startswith("w.") and name.endswith(".pth") for name in names)
    assert source("https://a.example/get?id=7&file=../../x").file_name.startswith("get.")


# -- S3 ---------------------------------------------------------------------------------------------------


class Storage(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """S3 in memory; `faults` are raised where its files are opened."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    faults: ClassVar[list[Exception]] = []

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if self.faults:
            raise self.faults.pop()
        return {**super().info(path, **options), "ETag": "one"}


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setitem(_registry, "s3", Storage)
    Storage.store.clear()
    return Storage()


def test_an_object_of_s3_is_fetched(storage: Storage, tmp_path: Path) -> None:
    storage.pipe_file(OBJECT, BODY)
    assert fetch(source(OBJECT, DIGEST), tmp_path).read_bytes() == BODY


def test_an_object_of_s3_is_continued(storage: Storage, tmp_path: Path) -> None:
    storage.pipe_file(OBJECT, BODY)
    wanted = source(OBJECT)
    tag = hashlib.sha256(b"one").hexdigest()[:12]
    (tmp_path / f"{wanted.file_name}.{tag}.partial").write_bytes(BODY[:1000])
    seen: list[int] = []
    downloads = Downloads(observe=lambda _name, done, _total: seen.append(done))
    assert fetch(wanted, tmp_path, downloads).read_bytes() == BODY
    assert seen[0] == 1000 + (1 << 20)


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (FileNotFoundError(OBJECT), "there is no such object. Check bucket and key"),
        (PermissionError("Access Denied"), "it may not be read. Give AWS credentials"),
        (OSError("Connect timeout"), "Connect timeout. Check the network"),
    ],
)
def test_faults_of_s3_say_what_to_do(storage: Storage, tmp_path: Path, fault: Exception, advice: str) -> None:
    storage.faults.append(fault)
    with pytest.raises(WeightsError, match=advice):
        fetch(source(OBJECT), tmp_path)


def test_s3_without_its_library_names_the_extra(tmp_path: Path) -> None:
    if "s3fs" in fsspec.available_protocols() and _has_s3fs():
        pytest.skip("s3fs is installed")
    with pytest.raises(WeightsError, match=r"s3fs is not installed. Run pip install 'rcnn-serve\[s3\]'"):
        fetch(source(OBJECT), tmp_path)


def _has_s3fs() -> bool:
    try:
        fsspec.get_filesystem_class("s3")
    except ImportError:
        return False
    return True


# -- a card -----------------------------------------------------------------------------------------------


@pytest.mark.network
def test_a_card_with_an_address_serves_and_a_missing_hash_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from models.zoo.loading import load_network
    from tests.support.data.cards import write_model
    from tests.support.data.networks import random_network

    network = random_network()
    path = write_model(tmp_path, network, weights="https://a.example/w.safetensors?v=1", sha256=None)
    [file] = tmp_path.glob("*.safetensors")
    with http_server(sends(file.read_bytes())) as port:
        downloads = Downloads(f"http://127.0.0.1:{port}")
        loaded = load_network(str(path), None, tmp_path / "cache", downloads=downloads)
    assert loaded.weights is not None
    assert loaded.weights.parent == tmp_path / "cache"
    assert f'add: sha256 = "{sha256_of(file)}"' in "\n".join(caplog.messages)
