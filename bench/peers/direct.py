"""No server at all: what a server's images/s and added latency are compared with.

`python -m bench.peers.direct IMAGE` reads lines `CALLS BATCH` and prints the seconds of each call, decode and
detector for so many images, as JSON.
"""

import json
import sys
import time
from pathlib import Path

from bench.peers.model import build


def main() -> None:
    """Until the end of the input; the model is loaded before the first line is read."""
    image, model = Path(sys.argv[1]).read_bytes(), build()

    def call(batch: int) -> float:
        started = time.perf_counter()
        model.predict([model.decode(image) for _ in range(batch)])
        return time.perf_counter() - started

    for line in sys.stdin:
        calls, batch = map(int, line.split())
        print(json.dumps([call(batch) for _ in range(calls)]), flush=True)


if __name__ == "__main__":
    main()
