"""BentoML: one worker, adaptive batches of at most 8; the image as a multipart file."""

from pathlib import Path
from typing import Any

import bentoml

from bench.peers.model import MAX_BATCH, build


@bentoml.service(workers=1, traffic={"timeout": 600, "max_concurrency": 256})
class Detection:
    """Served by `bentoml serve bench.peers.with_bentoml:Detection`."""

    def __init__(self) -> None:
        self.model = build()

    # The dispatcher drops requests that it expects to wait longer than max_latency_ms.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=600_000)  # type: ignore[untyped-decorator]  # BentoML's
    def detect(self, image: list[Path]) -> list[dict[str, Any]]:
        return self.model.predict([self.model.decode(file.read_bytes()) for file in image])
