"""Half precision that overflows is replaced or refused."""

import logging
from pathlib import Path

import pytest
import torch

from models.detector import DetectorSpec, load_detector
from models.engines import names
from models.engines.protocol import PrecisionOverflow
from models.pipeline.checksums import NonFiniteOutputs
from models.zoo.weights import save_weights
from tests.support.data.networks import LABELS, random_network

pytestmark = pytest.mark.network


def write_model(folder: Path, factor: float) -> str:
    """A model whose RPN gives scores of about `factor`."""
    network = random_network()
    with torch.no_grad():
        network.rpn.head.cls_logits.weight.mul_(factor)
    digest = save_weights(network, folder / "w.safetensors", half=False)
    card = folder / "mine.toml"
    card.write_text(
        f'name = "mine"\narchitecture = "small"\nweights = "file:w.safetensors"\nsha256 = "{digest}"\n'
        f"labels = {list(LABELS)}\nmin_size = 96\nmax_size = 160\n"
    )
    return str(card)


@pytest.fixture
def half_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU has the precisions of a GPU: the torch engine computes fp16 on both."""
    monkeypatch.setitem(names.PRECISIONS, ("torch", "cpu"), names.PRECISIONS["torch", "cuda"])


@pytest.mark.parametrize(
    ("factor", "reason"),
    [(1e9, "weights of .* are not finite as float16"), (3e5, "fp16: the network's outputs .* not finite")],
    ids=["weights", "outputs"],
)
def test_an_overflow_in_half_precision_is_replaced_by_fp32_or_refused(
    tmp_path: Path, half_by_default: None, caplog: pytest.LogCaptureFixture, factor: float, reason: str
) -> None:
    model = write_model(tmp_path, factor)
    spec = DetectorSpec(model, tmp_path, device="cpu", engine="torch", precision="fp16")
    with pytest.raises(PrecisionOverflow, match=f"{reason}.*set RCNN_PRECISION to fp32"):
        load_detector(spec)
    with caplog.at_level(logging.WARNING):
        detector = load_detector(DetectorSpec(model, tmp_path, device="cpu", engine="torch"))
    assert detector.precision == "fp32"
    assert "fp32 is used, as" in caplog.text
    assert detector.warm_up(1) == 1


def test_weights_that_fit_are_served_in_half_precision(tmp_path: Path, half_by_default: None) -> None:
    spec = DetectorSpec(write_model(tmp_path, 1.0), tmp_path, device="cpu", engine="torch")
    assert load_detector(spec).precision == "fp16"


def test_an_overflow_of_fp32_itself_is_refused(tmp_path: Path) -> None:
    spec = DetectorSpec(write_model(tmp_path, 1e38), tmp_path, device="cpu", engine="torch")
    with pytest.raises(NonFiniteOutputs):
        load_detector(spec)
