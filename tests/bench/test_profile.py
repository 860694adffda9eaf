"""The profile: stacks counted by hand."""

from bench import profile

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


def test_stacks_are_counted_by_thread_without_start_and_waiting() -> None:
    threads = profile.parse_stacks(STACKS.splitlines())
    samples = {name: thread.samples for name, thread in threads.items()}
    assert samples == {"event loop": 4, "device's thread": 20, "decode threads": 9}
    loop = threads["event loop"]
    assert loop.alone == {"detect (app/routes/detect.py)": 3, "f (re.py)": 1}
    assert loop.inclusive["detect (app/routes/detect.py)"] == 4
    assert loop.packages == {"app/routes": 3, "re": 1}
    assert threads["decode threads"].alone == {"prepare (models/pipeline/canvas.py)": 9}
    assert threads["device's thread"].packages == {"openvino": 20}
