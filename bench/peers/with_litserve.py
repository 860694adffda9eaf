"""LitServe: decode in the worker, batches of 8 within 10 ms, images as base64 as its examples send them."""

import base64
import os
from typing import Any

import litserve

from bench.peers.model import BATCH_WAIT_MS, MAX_BATCH, Answer, build


class Detection(litserve.LitAPI):  # type: ignore[misc]  # LitServe is in a venv of its own
    """One worker process; LitServe makes the lists of a batch, `unbatch` takes the answers apart."""

    def setup(self, device: str) -> None:
        self.model = build()

    def decode_request(self, request: dict[str, str]) -> Any:
        return self.model.decode(base64.b64decode(request["image"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[Answer]:
        return self.model.predict(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        return output

    def encode_response(self, output: Answer) -> Answer:
        return output


if __name__ == "__main__":
    api = Detection(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_MS / 1000)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=600)
    server.run(port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
