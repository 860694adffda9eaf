"""TF32 is off while any thread needs full float32, beside torch's old switches and its new ones."""

import threading

import pytest
import torch

from models.engines.cuda_graphs import frees_failed_captures
from models.engines.full_float32 import full_float32


def precision() -> str:
    return torch.backends.cudnn.conv.fp32_precision


def test_it_is_off_until_the_last_thread_is_done() -> None:
    before = precision()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with full_float32():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with full_float32():
        thread.start()
        assert inside.wait(10)
    assert precision() == "ieee", "the other thread still computes"
    leave.set()
    thread.join(10)
    assert precision() == before != "ieee"


@pytest.mark.parametrize("chosen", ["tf32", "ieee"])
def test_it_works_beside_the_new_switches_and_restores_them(chosen: str) -> None:
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    conv.fp32_precision = matmul.fp32_precision = chosen
    try:
        with full_float32(), full_float32():
            assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, matmul.fp32_precision) == (chosen, chosen)
    finally:
        conv.fp32_precision, matmul.fp32_precision = before


def test_it_restores_what_an_old_switch_reads() -> None:
    with full_float32():
        pass
    assert torch.backends.cudnn.allow_tf32 is True


@pytest.mark.parametrize(("version", "frees"), [("2.14.1+cu130", True), ("2.13.0", False), ("3.0.0a0", True)])
def test_a_failed_captures_graph_is_kept_for_older_torch_alone(version: str, frees: bool) -> None:
    assert frees_failed_captures(version) is frees
