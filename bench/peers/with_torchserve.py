"""TorchServe: a handler with batches of 8 within 10 ms in one worker, packed and served without tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.peers.model import BATCH_WAIT_MS, MAX_BATCH, Answer, build

BIN = Path(sys.prefix) / "bin"
PORTS = ("inference_address", "management_address", "metrics_address")
# The archive must hold a file that defines a class itself.
HANDLER = "from bench.peers import with_torchserve\n\n\nclass Served(with_torchserve.Detection):\n    pass\n"


class Detection:
    """A handler for torch-model-archiver: `initialize`, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load the model; TorchServe calls it once a worker."""
        self.model = build()
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Answer]:
        """Answers of a batch of requests."""
        return self.model.predict([self.model.decode(bytes(row.get("body") or row["data"])) for row in data])


def main() -> None:
    """Write the archive and the properties, and replace this process by TorchServe."""
    folder = Path(os.environ["BENCH_FOLDER"])
    (folder / "handler.py").write_text(HANDLER)
    (folder / "config.properties").write_text(_properties(int(os.environ["BENCH_PORT"])))
    archiver = (
        f"{BIN}/torch-model-archiver --model-name detect --version 1.0 --archive-format no-archive --force"
    )
    archiver += (
        f" --handler {folder}/handler.py --export-path {folder}"  # --force: both engines share the folder
    )
    subprocess.run(archiver.split(), check=True)  # noqa: S603  # its own program, in its own environment
    command = f"{BIN}/torchserve --foreground --disable-token-auth --models detect=detect"
    command += f" --model-store {folder} --ts-config {folder}/config.properties"
    os.environ |= {"LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)}
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    os.execv(f"{BIN}/torchserve", command.split())  # noqa: S606  # the same


def _properties(port: int) -> str:
    addresses = "".join(f"{name}=http://127.0.0.1:{port + index}\n" for index, name in enumerate(PORTS))
    settings = {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": MAX_BATCH,
        "maxBatchDelay": BATCH_WAIT_MS,
        "responseTimeout": 600,
    }
    models = json.dumps({"detect": {"1.0": {"marName": "detect", "defaultVersion": True, **settings}}})
    return f"{addresses}job_queue_size=1000\nmetrics_mode=log\nmodels={models}\n"


if __name__ == "__main__":
    main()
