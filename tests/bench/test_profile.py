"""The profile: stacks counted by hand, and one real run of the smallest kind where py-spy may look."""

import json
import subprocess
import sys
from pathlib import Path

from bench import profile

ROOT = Path(__file__).parents[2]
STACKS = """\
thread (7): MainThread;main (app/cli.py:1);Runner.run (asyncio/runners.py:118) 90
thread (7): MainThread;Runner.run (asyncio/runners.py:118);detect (app/routes/detect.py:61) 3
thread (7): MainThread;Runner.run (asyncio/runners.py:118);detect (app/routes/detect.py:65);f (re.py:9) 1
thread (7): MainThread;main (app/cli.py:1);_find_and_load (<frozen importlib._bootstrap>:9) 50
thread (8): batcher;Worker._work (app/batching/worker.py:59) 70
thread (8): batcher;Worker._work (app/batching/worker.py:61);infer (openvino/_ov_api.py:3) 20
thread (5): batcher;Worker._work (app/batching/worker.py:61);Model._load_and_warm_up (app/model.py:9) 60
thread (9): decode_0;_worker (concurrent/futures/thread.py:83);prepare (models/pipeline/canvas.py:57) 4
thread (10): decode_1;_worker (concurrent/futures/thread.py:83);prepare (models/pipeline/canvas.py:59) 5
thread (10): decode_1;_worker (concurrent/futures/thread.py:81) 5
thread (11): ThreadPool;elsewhere (x.py:1) 9
"""


def test_stacks_are_counted_by_thread_without_the_start_and_without_who_waits() -> None:
    found = profile.read(STACKS.splitlines())
    assert {name: share.samples for name, share in found.items()} == {
        "event loop": 4,
        "device's thread": 20,
        "decode threads": 9,
    }
    loop = found["event loop"]
    assert loop.alone == {"detect (app/routes/detect.py)": 3, "f (re.py)": 1}
    assert loop.inclusive["detect (app/routes/detect.py)"] == 4
    assert loop.packages == {"app/routes": 3, "re": 1}
    assert found["decode threads"].alone == {"prepare (models/pipeline/canvas.py)": 9}
    assert found["device's thread"].packages == {"openvino": 20}


def test_quick_run(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    command = [sys.executable, "-m", "bench.profile", "--seconds", "2", "--threads", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    threads = json.loads(out.read_text())["threads"]
    assert any("infer" in function for function in threads["device's thread"]["with_callees"])
    assert "By package" in done.stdout
