"""`rcnn doctor`: on a machine with nothing, with each thing that is wrong, and without torch."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.data.cards import write_card
from tests.support.process import python
from tests.support.rcnn import rcnn


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is set, and no other machine can be asked."""

    def refuse(*_: object) -> None:
        raise AssertionError("it asked another machine")

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def doctor(code: int, **settings: object) -> dict[str, Any]:
    """The checks by name; of a repeated one the last."""
    ran = rcnn("doctor", "--json", **({"port": 0} | settings))
    assert ran.code == code, ran.out + ran.err
    assert ran.json["starts"] == (code == 0)
    return {check["name"]: check for check in ran.json["checks"]}


@pytest.mark.network
def test_a_machine_without_network_weights_and_gpu(tmp_path: Path) -> None:
    checks = doctor(0, cache_dir=tmp_path / "cache", device="cpu")
    assert list(checks) == [
        *("Python", "torch", "settings", "device", "engine", "precision"),
        *("model coco-r50-fpn", "cache", "port", "proxy"),
    ]
    model = checks.pop("model coco-r50-fpn")
    assert {check["state"] for check in checks.values()} == {"ok"}
    assert model["state"] == "warning"
    assert "shapes serves, which knows only drawn shapes" in model["text"]
    assert f"put the file at {tmp_path / 'cache'}" in model["advice"]
    assert list(tmp_path.iterdir()) == []
    shown = rcnn("doctor", port=0, cache_dir=tmp_path, device="cpu")
    assert "warning  model coco-r50-fpn" in shown.out
    assert shown.out.endswith("The service can start\n")


@pytest.mark.network
@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        ({"device": "cuda:15"}, "device", "does not exist here"),
        ({"device": "cpu", "precision": "fp16"}, "engine", "'fp16' is not supported by the openvino engine"),
        ({"model": "coco-r50"}, "model coco-r50", "unknown model"),
        (
            {"model": "coco-r50-fpn", "cache_dir": "/dev/null/x"},
            "model coco-r50-fpn",
            "/dev/null is no folder",
        ),
        ({"uds": "/dev/null/rcnn.sock"}, "port", "choose another RCNN_UDS"),
        ({"tls_cert": "/dev/null", "tls_key": "/dev/null"}, "TLS", "has no certificate in PEM"),
        ({"grpc_port": 1, "host": "192.0.2.1"}, "gRPC", "choose another RCNN_HOST or RCNN_GRPC_PORT"),
    ],
)
def test_what_keeps_the_service_from_starting(settings: dict[str, object], name: str, said: str) -> None:
    check = doctor(1, **settings)[name]
    assert check["state"] == "failed"
    assert said in check["text"]


@pytest.mark.network
def test_the_socket_of_a_server_that_loads_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        before = path.stat().st_ino
        check = doctor(0, uds=path, model="shapes", device="cpu")["port"]
    assert (check["state"], path.stat().st_ino) == ("warning", before)
    assert "has ended or still loads" in check["text"]


def test_wrong_settings_are_explained() -> None:
    checks = doctor(1, modle="shapes")
    assert "did you mean RCNN_MODEL?" in checks["settings"]["text"]
    assert "port" not in checks


@pytest.mark.network
def test_a_taken_port_missing_weights_and_int8(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        checks = doctor(1, port=taken.getsockname()[1], model="shapes", precision="int8", device="cpu")
    assert "Address already in use" in checks["port"]["text"]
    assert "choose another RCNN_HOST or RCNN_PORT" in checks["port"]["text"]
    assert "shapes.int8-v1" in checks["model shapes"]["text"]
    card = write_card(tmp_path)
    assert "is missing" in doctor(1, model=card)[f"model {card}"]["text"]


@pytest.mark.network
def test_the_precision_of_auto_is_told_before_a_start(tmp_path: Path) -> None:
    settings = {"model": "shapes", "device": "cpu", "cache_dir": tmp_path}
    first = doctor(0, **settings)["precision"]
    assert first["text"].startswith("shapes: not timed yet: the first start takes the fastest of fp32, ")
    torch = doctor(0, **settings, engine="torch")["precision"]
    assert torch["text"] == "fp32: torch on a CPU has no other"
    assert doctor(0, **settings, precision="fp32")["precision"]["text"] == "fp32, as RCNN_PRECISION says"


@pytest.mark.network
def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128")
    proxy = doctor(0, model="shapes")["proxy"]
    assert (proxy["state"], proxy["text"]) == ("warning", "https by proxy.example:3128")
    assert "NO_PROXY" in proxy["advice"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert doctor(0, model="shapes")["proxy"]["state"] == "ok"


def test_torch_that_cannot_be_imported_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.13: cannot open')")
    program = "import sys\nsys.argv = ['rcnn', 'doctor', '--json']\nfrom app.cli import main\nmain()"
    done = python(program, PYTHONPATH=str(tmp_path), RCNN_PORT="0")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert checks["torch"]["text"] == "it cannot be imported: libcudart.so.13: cannot open"
    assert "both from the same index" in checks["torch"]["advice"]
    assert checks["port"]["state"] == "ok"
    assert "device" not in checks
