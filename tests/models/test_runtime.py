"""torchvision is imported without torch's compiler, which stays available; data and cards without torch."""

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
