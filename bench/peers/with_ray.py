"""Ray Serve: one replica with all cores, `serve.batch` of 8 within 10 ms."""

import os
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from bench.peers.model import BATCH_WAIT_MS, MAX_BATCH, Answer, build

CORES = len(os.sched_getaffinity(0))


class Detection:
    """The replica; `detect` collects the images of several requests."""

    def __init__(self) -> None:
        self.model = build()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_MS / 1000)  # type: ignore[untyped-decorator]  # Ray's
    async def detect(self, images: list[Any]) -> list[Answer]:
        return self.model.predict(images)

    async def __call__(self, request: Request) -> Any:
        return await self.detect(self.model.decode(await request.body()))


if __name__ == "__main__":
    passed = {name: text for name, text in os.environ.items() if name.startswith(("BENCH_", "RCNN_"))}
    ray.init(num_cpus=CORES, include_dashboard=False, runtime_env={"env_vars": passed})
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deploy = serve.deployment(ray_actor_options={"num_cpus": CORES}, max_ongoing_requests=128)
    serve.run(deploy(Detection).bind(), route_prefix="/detect")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
