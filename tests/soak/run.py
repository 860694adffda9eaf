"""Loads and unloads under load over every protocol: `python -m tests.soak.run`.

Two models are named; a third one is loaded and unloaded, cycle after cycle, while connections send images to
the two over every protocol, and to the third while it is loaded. Each answer must be the right model's, those
of /detect equal to those of a process of its own, /health true at each moment, and memory must not grow.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import pictures
from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.processes import Server, free_port
from bench.harness.service import serving
from tests.soak.protocols import PROTOCOLS, Connection
from tests.support.served import ROOT

NAMED, THIRD = ("shapes", "blood-cells"), "third"
ADMIN = {"X-API-Key": "soak"}
COLUMNS: Columns = {
    "cycle": "{cycle}",
    "load s": "{load:.2f}",
    "RSS MiB": "{resident:.0f}",
    "answers": "{answers}",
    "wrong": "{wrong}",
    "errors": "{errors}",
}


@dataclass
class Soak:
    """The load, and what came back."""

    ports: tuple[int, int]
    images: list[bytes]
    expected: dict[tuple[str, int], Any]
    stop: threading.Event = field(default_factory=threading.Event)
    answers: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, seed: int) -> None:
        """One connection, until the stop."""
        source, connection = random.Random(seed), Connection(*self.ports)  # noqa: S311  # no secret
        while not self.stop.is_set():
            name, protocol = source.choice(NAMED), source.choice(PROTOCOLS)
            self.check(connection, protocol, name, source.randrange(len(self.images)))

    def check(self, connection: Connection, protocol: str, name: str, index: int) -> None:
        """Send an image, and look at the answer."""
        answer = connection.ask(protocol, name, self.images[index])
        self.answers[protocol] += 1
        if answer.error:
            self.errors.append(f"{protocol} {name}: {answer.error}")
        elif answer.model != name:
            self.wrong.append(f"{protocol} {name}: answered by {answer.model}")
        elif answer.detections is not None:
            self.compared += 1
            if answer.detections != self.expected[name, index]:
                self.wrong.append(f"{protocol} {name}: other detections than of a process of its own")

    def watch_health(self) -> None:
        """Ask /health until the stop: it must be ready, with every named model."""
        http = Connection(*self.ports).http
        while not self.stop.wait(0.1):
            response = http.get("/health")
            states = {one["name"]: one["state"] for one in response.json()["models"]}
            if response.status_code != 200 or any(states.get(name) != "ready" for name in NAMED):
                self.errors.append(f"/health: {response.status_code} {states}")


def main() -> None:
    """Print a row a cycle, and the sums."""
    arguments, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        _write_third(Path(folder))
        images, grpc_port = [pictures.jpeg(index=index) for index in range(arguments.images)], free_port()
        expected = _expected(images, folder)
        settings = {
            "model": ",".join(NAMED),
            "model_dir": folder,
            "max_loaded_models": 3,
            "admin_keys": "soak",
        }
        with serving(
            (), **settings, max_queue=256, timeout_ms=60_000, max_streams=64, grpc_port=grpc_port
        ) as (
            target,
            server,
        ):
            soak = Soak((target.port, grpc_port), images, expected)
            with _running(soak, arguments.connections):
                rows = [_cycle(soak, server, number + 1) for number in range(arguments.cycles)]
    print_table(f"{arguments.connections} connections, {title(machine)}", COLUMNS, rows)
    growth = rows[-1]["resident"] / rows[min(2, len(rows) - 1)]["resident"] - 1
    print(f"{sum(soak.answers.values())} answers: {dict(soak.answers)}")
    print(f"{soak.compared} compared with a process of its own; wrong: {len(soak.wrong)}; ", end="")
    print(f"errors: {len(soak.errors)}; memory from cycle 3 to the last: {growth:+.1%}")
    print(*soak.wrong[:5], *soak.errors[:5], sep="\n")
    write_json(arguments.json, machine, cycles=rows, answers=soak.answers, growth=growth)


def _write_third(folder: Path) -> None:
    """The third model: the bundled one under another name."""
    zoo = ROOT / "models" / "zoo"
    text = (zoo / "shapes.toml").read_text().replace('name = "shapes"', f'name = "{THIRD}"')
    (folder / "shapes.safetensors").symlink_to(zoo / "shapes.safetensors")
    (folder / f"{THIRD}.toml").write_text(text)


def _expected(images: list[bytes], folder: str) -> dict[tuple[str, int], Any]:
    """The detections of each model in a process of its own."""
    found = {}
    for name in (*NAMED, THIRD):
        with serving((), model=name, model_dir=folder) as (target, _):
            connection = Connection(target.port, target.port)
            for index, image in enumerate(images):
                found[name, index] = connection.ask("raw", name, image).detections
    return found


@contextmanager
def _running(soak: Soak, connections: int) -> Iterator[None]:
    with ThreadPoolExecutor(connections + 1) as pool:
        tasks = [pool.submit(soak.ask, seed) for seed in range(connections)] + [
            pool.submit(soak.watch_health)
        ]
        try:
            yield
        finally:
            soak.stop.set()
        for task in tasks:
            task.result()


def _cycle(soak: Soak, server: Server, number: int) -> dict[str, Any]:
    """Load the third model, ask it over every protocol, unload it, and wait until it is gone."""
    before, connection = sum(soak.answers.values()), Connection(*soak.ports)
    load = connection.http.post(f"/models/{THIRD}/load", headers=ADMIN).raise_for_status().json()
    for protocol in PROTOCOLS:
        soak.check(connection, protocol, THIRD, number % len(soak.images))
    connection.http.post(f"/models/{THIRD}/unload", headers=ADMIN).raise_for_status()
    deadline = time.monotonic() + 60
    while THIRD in [one["name"] for one in connection.http.get("/health").json()["models"]]:
        if time.monotonic() > deadline:
            soak.errors.append(f"{THIRD} is still held a minute after its unload")
            break
        time.sleep(0.1)
    return {
        "cycle": number,
        "load": load["seconds"],
        "resident": server.resident_mebibytes(),
        "answers": sum(soak.answers.values()) - before,
        "wrong": len(soak.wrong),
        "errors": len(soak.errors),
    }


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--images", type=int, default=8, help="different ones")
    return parser.parse_args()


if __name__ == "__main__":
    main()
