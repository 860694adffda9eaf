"""What a slow model costs a quick one in the same process: `python -m bench.several.fairness`.

An open loop asks the quick model, alone and beside a closed loop that keeps the slow one busy, in turns. Fair
sharing lets a request of the quick model wait for the slow batch that runs, and for no other: its p99 may
grow by the length of that batch, whatever waits for the slow model.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote

from bench.harness import cards, pictures
from bench.harness.load import LoadPlan, LoadResult, Target, combine, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.service import serving

QUICK, SLOW = "shapes", "slow"
COLUMNS: Columns = {
    "load": "{load}",
    "200/s": "{result.images_per_second:.1f}",
    "p50 ms": "{result.p50_ms:.0f}",
    "p99 ms": "{result.p99_ms:.0f}",
    "slowest ms": "{result.slowest_ms:.0f}",
    "errors": lambda row: ", ".join(f"{status}: {count}" for status, count in row["result"].errors.items()),
}


def main() -> None:
    """Print the quick model alone, beside the slow one, and the slow one."""
    arguments, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        image = pictures.write(Path(name) / "scene.jpg")
        models = f"{QUICK},{cards.find(arguments.slow, Path(name))}"
        with serving(model=models, timeout_ms=60_000) as (target, _):
            rounds = [_round(target, image, arguments) for _ in range(arguments.rounds)]
    results = {load: combine([one[load] for one in rounds]) for load in rounds[0]}
    rows = [{"load": load, "result": result} for load, result in results.items()]
    alone, beside = results[QUICK].p99_ms, results[f"{QUICK} beside"].p99_ms
    batch = results[SLOW].p50_ms
    slow = f"slow: {arguments.connections} connections for {_slow_name(arguments)}"
    print_table(f"{arguments.rate:g} images/s of {QUICK}; {slow}; {title(machine)}", COLUMNS, rows)
    print(
        f"p99 of {QUICK} grows by {beside - alone:.0f} ms, {(beside - alone) / batch:.2f} times one image of "
        f"{arguments.slow}, while {arguments.connections} connections ask for it"
    )
    write_json(arguments.json, machine, results={load: asdict(result) for load, result in results.items()})


def _round(target: Target, image: Path, arguments: argparse.Namespace) -> dict[str, LoadResult]:
    slow = replace(target, path=f"/detect?model={quote(_slow_name(arguments))}")
    quick = replace(target, path=f"/detect?model={QUICK}")
    steady = LoadPlan(64, arguments.seconds, arguments.rate, seed=1)
    measure(quick, [image], LoadPlan(1, 9, requests=5))
    results = {SLOW: measure(slow, [image], LoadPlan(1, arguments.seconds / 2))}
    results[QUICK] = measure(quick, [image], steady)
    with ThreadPoolExecutor(1) as pool:
        crowd = LoadPlan(arguments.connections, arguments.seconds + 0.5)
        busy = pool.submit(measure, slow, [image], crowd)
        results[f"{QUICK} beside"] = measure(quick, [image], steady)
        results[f"{SLOW} beside"] = busy.result()
    return results


def _slow_name(arguments: argparse.Namespace) -> str:
    return "random-r50-fpn" if arguments.slow == cards.HEAVY else str(arguments.slow)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--slow", default=cards.HEAVY, help=f"the slow model, or {cards.HEAVY}")
    parser.add_argument("--rate", type=float, default=2, help="images a second of the quick model")
    parser.add_argument("--connections", type=int, default=8, help="that ask the slow model")
    parser.add_argument("--seconds", type=float, default=30, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
