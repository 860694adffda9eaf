"""torchvision is imported without torch's compiler, which stays available; data and cards without torch."""

import mmap
import os
import sys
from pathlib import Path

import pytest

from tests.support.process import python

WITHOUT_COMPILER = """
from models.runtime import import_torchvision
import_torchvision()
import sys, torch
from models.networks import build_network
build_network('small', 3).eval()([torch.zeros(3, 64, 64)])
assert not [name for name in ('torch._dynamo', 'sympy', 'triton') if name in sys.modules], 'a forward'
assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2, 'the compiler works'
from torchvision.ops.roi_align import is_compile_supported as deferred
from torch._dynamo.utils import is_compile_supported as real
assert deferred is not real
assert deferred('cpu') is real('cpu'), "torchvision's question is answered by the compiler"
"""
WITH_COMPILER = """
import sys, torch
from models import runtime
with runtime._deferred_compiler():
    from torch._dynamo.utils import counters  # not what the stub answers
import torch._dynamo.utils as real
assert counters is real.counters, 'any other name is the real one'
before = sys.modules['torch._dynamo']
runtime.import_torchvision()
assert sys.modules['torch._dynamo'] is before, 'a compiler that is there already stays'
"""


@pytest.mark.network
@pytest.mark.parametrize("program", [WITHOUT_COMPILER, WITH_COMPILER], ids=["deferred", "imported"])
def test_the_compiler_is_deferred_and_real(program: str) -> None:
    done = python(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "program", ["import models.datasets", "from models.zoo.catalogue import catalogue; catalogue(None)"]
)
def test_data_sets_and_cards_are_read_without_torch(program: str) -> None:
    done = python(f"{program}; import sys; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is mapped")
def test_pages_of_mapped_weights_leave_the_memory_and_are_read_again(tmp_path: Path) -> None:
    """OpenVINO keeps the file mapped beside its packed copy: 158 MiB of coco-r50-fpn."""
    from models.runtime import give_memory_back

    weights = tmp_path / "dense.bin"
    with weights.open("wb") as file:
        file.write(bytes(range(256)) * 4096)
        file.flush()
        os.fsync(file.fileno())  # the kernel keeps pages that it has yet to write
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        content = bytes(mapped)
        assert resident(weights) == 1024
        give_memory_back()
        assert resident(weights) == 0
        assert bytes(mapped) == content


def resident(path: Path) -> int:
    """KiB of a mapped file in memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.endswith(str(path)))
    return int(next(line for line in lines if line.startswith("Rss:")).split()[1])
