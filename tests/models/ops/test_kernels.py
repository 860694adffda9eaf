"""Which kernels run where, and that Triton's are right: interpreted, and compiled for a GPU without one."""

import logging
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from models.ops import kernels
from models.ops.kernels import OF_TORCH, kernels_for

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
PROCESS = "tests.models.ops.interpreted_kernels"
COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from models.ops import triton_kernels as kernels

def cubin(kernel, capability, types, constants):
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    return compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8}).asm["cubin"]

NMS = {name: "*fp32" for name in ("boxes", "areas", "kinds", "limits", "states")}
NMS |= {"valid": "*u8", "count": "i32"}
POOL = {"rows": "*fp16", "pooled": "*fp16", "boxes": "*fp32", "images": "*i32", "chosen": "*i32"}
POOL |= {"number": "i32", "scale": "fp32", "height": "i32", "width": "i32"}
of_nms = {"BLOCKS": 4, "SIZE": 64, "HAS_KINDS": True}
of_pool = {"CHANNELS": 256, "SIDE": 7, "SAMPLES": 2, "WIDTH": 256}
assert cubin(kernels._nms_of_group, 75, NMS, of_nms)
assert cubin(kernels._pool_from_level, 75, POOL, of_pool)
print("compiled")
"""


def run(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@needs_triton
def test_tritons_kernels_give_torchvisions_nms_and_our_roi_align() -> None:
    assert "equal" in run("-m", PROCESS, TRITON_INTERPRET="1")


@pytest.mark.slow
@needs_triton
def test_tritons_kernels_compile_for_the_oldest_gpu(tmp_path: str) -> None:
    """Without a GPU, for Turing; the interpreter accepts more than the compiler does."""
    assert "compiled" in run("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))


def test_a_device_without_cuda_uses_torchs() -> None:
    assert kernels_for(torch.device("cpu")) is kernels_for(torch.device("meta")) is OF_TORCH


@pytest.mark.parametrize("error", [RuntimeError("Failed to find C compiler\nmore"), ImportError("noexec")])
def test_where_triton_does_not_work_torchs_are_used_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fails(name: str) -> object:
        raise error

    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    monkeypatch.setattr(kernels, "import_module", fails)
    kernels_for.cache_clear()
    with caplog.at_level(logging.INFO):
        assert kernels_for(torch.device("cuda:7")) is OF_TORCH
    kernels_for.cache_clear()
    [record] = caplog.records
    assert str(error).splitlines()[0] in record.getMessage()
