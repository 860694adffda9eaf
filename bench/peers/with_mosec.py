"""mosec: one worker process that decodes and infers, batches of 8 within 10 ms."""

import os
import sys
from typing import Any

from mosec import Server, Worker

from bench.peers.model import BATCH_WAIT_MS, MAX_BATCH, Answer, build


class Inference(Worker):  # type: ignore[misc]  # mosec is in a venv of its own
    """No stage before it for decoding: its pickled tensors would cost what it saves on few cores."""

    def __init__(self) -> None:
        self.model = build()

    def deserialize(self, data: bytes) -> Any:
        return self.model.decode(data)

    def forward(self, data: list[Any]) -> list[Answer]:
        return self.model.predict(data)


if __name__ == "__main__":
    sys.argv += ["--port", os.environ["BENCH_PORT"], "--timeout", "600000", "--log-level", "warning"]
    server = Server()
    server.append_worker(Inference, max_batch_size=MAX_BATCH, max_wait_time=BATCH_WAIT_MS)
    server.run()
