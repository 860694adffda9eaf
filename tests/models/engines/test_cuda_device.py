"""What is said of a GPU that torch cannot use, and its memory's share; torch.cuda has stand-ins."""

import logging
import re
from pathlib import Path

import pytest
import torch

from models.detector import DetectorSpec, load_detector
from models.engines import (
    EngineChoice,
    EngineUnavailable,
    build_engine,
    choose_device,
    cuda_device,
    fallback_reason,
)
from tests.support.data.networks import random_network

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
    assert re.search(f"^the CPU is used, as this machine's GPU cannot be: .*{reason}", warning)


@pytest.mark.parametrize("capability", [(7, 5), (8, 9), (10, 3), (12, 0)])
def test_a_gpu_of_a_compiled_or_newer_capability_is_used(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    machine_with_a_gpu(monkeypatch, capability)
    assert [choose_device(name).type for name in ("auto", "cuda:0")] == ["cuda", "cuda"]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a GPU; the path of its driver's file, which is not there."""
    monkeypatch.setattr(cuda_device, "DEVICE_FILE", tmp_path / "none")
    monkeypatch.setattr(cuda_device, "DRIVER_FILE", tmp_path / "driver")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    return tmp_path / "driver"


def test_without_a_gpu_nothing_is_said(no_gpu: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == torch.device("cpu")
    assert caplog.messages == []
    assert fallback_reason(["auto"], None) is None


def test_a_driver_without_a_gpu_is_said(no_gpu: Path) -> None:
    """A container without `--gpus` on a host with one."""
    no_gpu.touch()
    assert choose_device("auto") == torch.device("cpu")
    assert "this process sees no GPU; give it one" in str(fallback_reason(["auto"], None))


def test_a_cpu_that_was_asked_for_needs_no_reason(no_gpu: Path) -> None:
    no_gpu.touch()
    assert fallback_reason(["cpu"], None) is None


@pytest.mark.network
def test_health_gets_the_reason_why_the_cpu_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine_with_a_gpu(monkeypatch, OLD_DRIVER)
    reason = load_detector(
        DetectorSpec("shapes", tmp_path)
    ).fallback_reason  # as /health and the page show it
    assert re.search("the CPU is used, .* driver on your system is too old .* 580 or newer", str(reason))
    assert load_detector(DetectorSpec("shapes", tmp_path, device="cpu")).fallback_reason is None
    both = fallback_reason(["auto"], "coco-r50-fpn could not be fetched")
    assert str(both).startswith("coco-r50-fpn could not be fetched; the CPU is used")


@pytest.mark.network
@pytest.mark.parametrize(("share", "set_to"), [(0.5, [(0.5, "cuda:0")]), (1.0, [])])
def test_the_share_of_memory_is_set_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch, share: float, set_to: list[tuple[float, str]]
) -> None:
    machine_with_a_gpu(monkeypatch, (9, 0))
    limits: list[tuple[float, str]] = []

    def set_per_process_memory_fraction(fraction: float, device: torch.device) -> None:
        limits.append((fraction, str(device)))

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", set_per_process_memory_fraction)
    network = random_network()
    with pytest.raises(RuntimeError):  # of the first allocation: there is no device
        build_engine(network, EngineChoice("cuda:0", memory=share))
    assert limits == set_to


@pytest.mark.parametrize(
    ("share", "free", "reserved", "left"),
    [(1.0, 60, 30, 60), (0.5, 60, 30, 20), (0.5, 10, 30, 10), (0.5, 60, 60, -10)],
    ids=["whole", "share", "others", "over"],
)
def test_graphs_may_use_what_is_left_of_the_share(
    monkeypatch: pytest.MonkeyPatch, share: float, free: int, reserved: int, left: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    device = torch.device("cuda:0")
    assert cuda_device.left_memory(device, share) == (left, round(100 * share))
    assert cuda_device.memory_bytes(torch.device("cpu"), 7) == {}
