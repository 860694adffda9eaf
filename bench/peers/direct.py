"""No server at all, and at rest until it is told: the base that an added latency is above.

`python -m bench.peers.direct IMAGE` reads a number a line and prints the seconds of so many calls of decode
and detector as JSON.
"""

import json
import sys
import time
from pathlib import Path

from bench.peers.model import build


def main() -> None:
    """Until the end of the input; the model is loaded before the first line is read."""
    image, model = Path(sys.argv[1]).read_bytes(), build()

    def call() -> float:
        started = time.perf_counter()
        model.predict([model.decode(image)])
        return time.perf_counter() - started

    for line in sys.stdin:
        print(json.dumps([call() for _ in range(int(line))]), flush=True)


if __name__ == "__main__":
    main()
