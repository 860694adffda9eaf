"""Images, a model, and `rcnn detect` at a running service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.rcnn import Ran, rcnn


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card of a small network with random weights, which detects many objects."""
    from tests.support.data.cards import write_model
    from tests.support.data.networks import random_network

    folder = tmp_path_factory.mktemp("random")
    return write_model(
        folder, random_network(), name="random", score_threshold=0.3, min_size=128, max_size=224
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(picture())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in a folder of its own, with a broken one between them."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(picture(64, 48))
    (folder / "b.png").write_bytes(b"no image")
    (folder / "deep" / "a.JPG").write_bytes(picture(32, 48, "JPEG"))
    return folder


@pytest.fixture
def url(program: Program) -> str:
    return f"http://127.0.0.1:{program.port}"


@pytest.fixture
def detect(url: str) -> Callable[..., Ran]:
    """`rcnn detect` at the module's program."""

    def call(*arguments: object, **named: Any) -> Ran:
        return rcnn("detect", *arguments, "--url", url, **named)

    return call
