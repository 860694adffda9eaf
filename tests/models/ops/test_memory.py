"""Every kind of out-of-memory error becomes MemoryError, and no other error does."""

import numpy as np
import pytest
import torch

from models.engines.openvino_import import ov
from models.ops.memory import out_of_memory_as

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223: std::bad_alloc"),
    MemoryError(),
]
OTHER = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("Expected all tensors to be on the same device"),
    ValueError("out of memory"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_a_lack_of_memory_is_a_memory_error(error: Exception) -> None:
    with pytest.raises(MemoryError, match=r"^too large$") as caught, out_of_memory_as("too large"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, out_of_memory_as("too large"):
        raise error
    assert caught.value is error


def test_the_allocators_of_this_machine_are_understood() -> None:
    """torch and OpenVINO are asked for 1 PiB."""
    with pytest.raises(MemoryError, match="too large"), out_of_memory_as("too large"):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(MemoryError, match="too large"), out_of_memory_as("too large"):
        ov.Tensor(np.uint8, [2**50])
