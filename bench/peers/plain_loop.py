"""No server at all: decode, model and JSON in a loop, the most that one process can give.

`python -m bench.peers.plain_loop IMAGE SECONDS BATCH` prints the seconds of each batch as JSON.
"""

import json
import sys
import time
from pathlib import Path

from bench.peers.model import build


def main() -> None:
    """Time batch after batch; the first is for warming up."""
    image, seconds, batch = Path(sys.argv[1]).read_bytes(), float(sys.argv[2]), int(sys.argv[3])
    model = build()

    def answer() -> float:
        started = time.perf_counter()
        json.dumps(model.predict([model.decode(image) for _ in range(batch)]))
        return time.perf_counter() - started

    answer()
    times, until = [answer()], time.perf_counter() + seconds
    while time.perf_counter() < until:
        times.append(answer())
    print(json.dumps(times))


if __name__ == "__main__":
    main()
