"""Half precision that overflows is replaced or refused, and a GPU that torch cannot use is explained."""

import logging
from pathlib import Path

import pytest
import torch

from models.detector import DetectorSpec, load_detector
from models.engines import EngineUnavailable, choice, choose_device, cuda_device
from models.engines.protocol import PrecisionOverflow
from models.pipeline.postprocess import NonFiniteOutputs
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
    monkeypatch.setitem(choice.PRECISIONS, ("torch", "cpu"), choice.PRECISIONS["torch", "cuda"])


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


OLD_DRIVER = RuntimeError("The NVIDIA driver on your system is too old (found version 12040).\nPlease update")


def machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | Exception) -> None:
    """What torch says where NVML counts a GPU: its capability, or why CUDA does not start."""

    def get_device_capability(device: object) -> tuple[int, int]:
        if isinstance(capability, Exception):
            raise capability
        return capability

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not isinstance(capability, Exception))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "sm_100", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", get_device_capability)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


UNUSABLE = [
    (
        OLD_DRIVER,
        r"driver on your system is too old \(found version 12040\)\.\); .* NVIDIA driver of 580 or newer",
    ),
    ((7, 0), r"its compute capability is 7\.0; .* needs a GPU of capability 7\.5 or newer"),
]


@pytest.mark.parametrize(("capability", "reason"), UNUSABLE, ids=["driver", "capability"])
def test_a_gpu_that_torch_cannot_use_is_an_error_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: tuple[int, int] | Exception,
    reason: str,
) -> None:
    machine_with_a_gpu(monkeypatch, capability)
    with pytest.raises(EngineUnavailable, match=f"'cuda' cannot be used: .*{reason}.*RCNN_DEVICE to cpu"):
        choose_device("cuda")
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == torch.device("cpu")
    [warning] = caplog.messages
    assert warning.startswith("the CPU is used, as this machine's GPU cannot be")


@pytest.mark.parametrize("capability", [(7, 5), (8, 9), (10, 3), (12, 0)])
def test_a_gpu_of_a_compiled_or_newer_capability_is_used(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    machine_with_a_gpu(monkeypatch, capability)
    assert [choose_device(name).type for name in ("auto", "cuda:0")] == ["cuda", "cuda"]


def test_without_a_gpu_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(cuda_device, "DEVICE_FILE", tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == torch.device("cpu")
    assert caplog.messages == []
