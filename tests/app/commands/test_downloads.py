"""Weights by address, from the command line: through the mirror, with a bar on a terminal, and once."""

from pathlib import Path

import pytest

from models.zoo.catalogue import ZOO
from tests.support.rcnn import Ran, rcnn
from tests.support.servers.http_server import http_server
from tests.support.servers.weights_server import sends

pytestmark = pytest.mark.network


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card whose weights, those of shapes, are at an address without a hash."""
    text = (ZOO / "shapes.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("sha256", "weights"))]
    path = tmp_path / "remote.toml"
    path.write_text("\n".join(['weights = "https://weights.invalid/w/shapes.safetensors"', *lines]))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return path


def detect(image: Path, card: Path, port: int) -> Ran:
    mirror = {"weights_mirror": f"http://127.0.0.1:{port}", "cache_dir": card.parent / "cache"}
    return rcnn("detect", image, "--model", card, **mirror, engine="torch")


def test_a_model_by_address_is_fetched_once_with_a_bar(
    mirrored: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with http_server(sends((ZOO / "shapes.safetensors").read_bytes())) as port:
        first = detect(image, mirrored, port)
    assert first.code == 0, first.err
    assert "Fetching shapes." in first.err
    assert "9.0/9.0 MB" in first.err
    second = detect(image, mirrored, port)  # nobody answers any more
    assert second.code == 0, second.err
    assert "Fetching" not in second.err


def test_a_refused_address_says_what_to_do(mirrored: Path, image: Path) -> None:
    with http_server(sends(b"", status=403)) as port:
        ran = detect(image, mirrored, port)
    assert ran.code == 1
    assert "https://weights.invalid/w/shapes.safetensors could not be fetched: 403 Forbidden" in ran.err
