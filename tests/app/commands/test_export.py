"""`rcnn export`: writes the file that it compared, and leaves what was there where it cannot."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data.cards import write_card, write_model
from tests.support.data.networks import random_network
from tests.support.rcnn import rcnn

pytestmark = pytest.mark.network


@pytest.mark.parametrize(("target", "names"), [("onnx", ["out.onnx"]), ("openvino", ["out.bin", "out.xml"])])
def test_the_file_is_written_and_compared(target: str, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / names[-1]
    ran = rcnn("export", "shapes", "--to", target, "--out", out)
    assert (ran.code, ran.out) == (0, f"{out}\n"), ran.err
    assert sorted(path.name for path in out.parent.iterdir()) == names
    assert "are equal in two test pictures" in ran.err
    assert str(out) in ran.err  # the lines of Python that load it


def test_a_model_that_finds_nothing_is_compared_with_a_lower_threshold(tmp_path: Path) -> None:
    card = write_model(tmp_path, random_network(), score_threshold=1.0, min_size=128, max_size=224)
    ran = rcnn("export", card, "--to", "onnx", "--out", tmp_path / "out.onnx")
    assert ran.code == 0, ran.err
    assert "with a score above 1 " not in ran.err


REFUSED = {
    "another network": (("shapes", "torch", "old.pth"), 1, "torchvision has no builder of small"),
    "an unknown model": (("sea", "onnx", "old.onnx"), 1, "unknown model 'sea'; choose one of: "),
    "another ending": (("shapes", "onnx", "old.pth"), 2, "--to onnx writes .onnx; use that ending"),
    "an unknown format": (("shapes", "tflite", "old.onnx"), 2, ""),
}


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED.values(), ids=REFUSED)
def test_what_was_there_stays(arguments: tuple[str, str, str], code: int, text: str, tmp_path: Path) -> None:
    model, target, name = arguments
    (tmp_path / name).write_text("before")
    ran = rcnn("export", model, "--to", target, "--out", tmp_path / name)
    assert ran.code == code
    assert text in ran.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_sections_that_torchvision_lacks_are_refused(tmp_path: Path) -> None:
    card = write_card(tmp_path, architecture="mobilenet_v3_large_320_fpn", weights="random:1")
    card.write_text(card.read_text() + "[head]\naligned = true\n")
    ran = rcnn("export", card, "--to", "torch", "--out", tmp_path / "out.pth")
    assert ran.code == 1
    assert "[head] aligned = True is not a way of torchvision's detectors" in ran.err


@pytest.mark.parametrize(
    ("target", "package", "extra"), [("onnx", "onnxruntime", "export"), ("openvino", "openvino", "cpu")]
)
def test_a_plain_install_lacks_the_extra(
    target: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    suffix = {"onnx": ".onnx", "openvino": ".xml"}[target]
    ran = rcnn("export", "shapes", "--to", target, "--out", tmp_path / f"out{suffix}")
    advice = f"{package} is missing; install it with: pip install 'rcnn-serve[{extra}]'"
    assert (ran.code, ran.out, ran.err) == (1, "", f"rcnn: {advice}\n")


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(("target", "name"), [("onnx", "out.onnx"), ("openvino", "out.xml")])
def test_a_full_disk_is_a_plain_error(target: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("before")
    ran = rcnn("export", "shapes", "--to", target, "--out", tmp_path / name)
    assert ran.code == 1
    assert "cannot be written" in ran.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
