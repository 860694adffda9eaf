"""The profile: stacks counted by hand."""

from bench import profile

STACKS = """\
thread (7): MainThread;main (app/cli.py);Runner.run (asyncio/runners.py) 90
thread (7): MainThread;Runner.run (asyncio/runners.py);detect (app/routes/detect.py) 3
thread (7): MainThread;Runner.run (asyncio/runners.py);detect (app/routes/detect.py);f (re.py) 1
thread (7): MainThread;main (app/cli.py);_find_and_load (<frozen importlib._bootstrap>) 50
thread (8): batcher;Worker._work (app/batching/worker.py) 70
thread (8): batcher;Worker._work (app/batching/worker.py);infer (openvino/_ov_api.py) 20
thread (5): batcher;Worker._work (app/batching/worker.py);Model._load_and_warm_up (app/model.py) 60
thread (9): decode_0;_worker (concurrent/futures/thread.py);prepare (models/pipeline/canvas.py) 4
thread (10): decode_1;_worker (concurrent/futures/thread.py);prepare (models/pipeline/canvas.py) 5
thread (10): decode_1;_worker (concurrent/futures/thread.py) 5
thread (11): ThreadPool;elsewhere (x.py) 9
"""


def test_stacks_are_counted_by_thread_without_start_and_waiting() -> None:
    threads = profile.parse_stacks(STACKS.splitlines())
    samples = {name: thread.samples for name, thread in threads.items()}
    assert samples == {"event loop": 4, "device's thread": 20, "decode threads": 9}
    loop = threads["event loop"]
    assert loop.alone == {"detect (app/routes/detect.py)": 3, "f (re.py)": 1}
    assert loop.inclusive["detect (app/routes/detect.py)"] == 4
    assert threads["decode threads"].alone == {"prepare (models/pipeline/canvas.py)": 9}
    assert threads["device's thread"].alone == {"infer (openvino/_ov_api.py)": 20}
