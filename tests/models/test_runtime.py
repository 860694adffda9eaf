"""torchvision is imported without torch's compiler, which stays at hand. Each in a process of its own."""

import subprocess
import sys

from models.networks import build_network

LEAN = """
from models.runtime import import_torchvision
import_torchvision()
import sys, torch, torchvision
"""


def _python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_compiler_stays_away_from_a_whole_forward() -> None:
    code = LEAN + (
        "from models.networks import build_network; "
        "build_network('small', 3).eval()([torch.zeros(3, 64, 64)]); "
        "print([name for name in ('torch._dynamo', 'sympy', 'triton') if name in sys.modules])"
    )
    assert _python(code) == "[]"
    assert build_network("small", 3)  # and the architecture is one there is


def test_the_compiler_comes_when_it_is_wanted() -> None:
    code = LEAN + "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item())"
    assert _python(code) == "2.0"


def test_torchvisions_own_question_is_answered_by_the_compiler() -> None:
    code = LEAN + (
        "from torchvision.ops.roi_align import is_compile_supported as asked; "
        "found = asked('cpu'); from torch._dynamo.utils import is_compile_supported as real; "
        "print(found is real('cpu'), asked is not real)"
    )
    assert _python(code) == "True True"


def test_a_name_that_nobody_foresaw_is_the_real_one() -> None:
    code = (
        "import torch; from models import runtime; "
        "deferred = runtime._deferred_compiler(); deferred.__enter__(); "
        "from torch._dynamo.utils import counters; deferred.__exit__(None, None, None); "
        "import torch._dynamo.utils as real; print(counters is real.counters)"
    )
    assert _python(code) == "True"


def test_a_compiler_that_is_there_already_is_left_alone() -> None:
    code = "import torch._dynamo as before; " + LEAN + "print(sys.modules['torch._dynamo'] is before)"
    assert _python(code) == "True"
