"""Fuzzes the readers of everything that a client sends: `python -m tests.fuzz.run --minutes 10` (make fuzz).

A fault is any exception but the documented errors, more CPU time than CPU_SECONDS for one small input, more
memory than MEMORY, a hang or a crash. It is shrunk, printed in hex and kept in build/fuzz: make a test of it.
"""

import argparse
import faulthandler
import hashlib
import logging
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import Target, targets

FOLDER = Path("build/fuzz")
EXAMPLES = 100  # of a target before the next one's turn
CPU_SECONDS = 2.0  # for at most 64 KB and a million pixels
MEMORY = 1 << 30  # bytes of growth of the process's peak
HANG_SECONDS = 120
SHOWN = 2000  # bytes of a faulty input that are printed


class Fault(AssertionError):
    """An input that breaks a rule that no exception shows."""


class Fuzzer:
    """Runs targets in turns until the time is over; remembers the shortest input of each fault."""

    def __init__(
        self, seconds: float, first_seed: int, folder: Path = FOLDER, cpu_seconds: float = CPU_SECONDS
    ) -> None:
        self._end = time.monotonic() + seconds
        self._seed = first_seed
        self._folder = folder
        self._cpu_seconds = cpu_seconds
        self._current = folder / "current"  # what is left of a crash or a hang
        self._memory = _peak()
        self.inputs: Counter[str] = Counter()
        self.faults: dict[str, tuple[bytes, Exception]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, chosen: list[Target]) -> None:
        """Each target in turn, with a new seed each time; one that has a fault is not run again."""
        while time.monotonic() < self._end and len(self.faults) < len(chosen):
            for target in chosen:
                if target.name not in self.faults and time.monotonic() < self._end:
                    self._examine(target)
            self._seed += 1
        self._current.unlink(missing_ok=True)

    def _examine(self, target: Target) -> None:
        last = [b""]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=DirectoryBasedExampleDatabase(self._folder / "examples"),
            suppress_health_check=list(HealthCheck),
            phases=(Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @seed(self._seed)
        @given(mutated(target.corpus))
        def check(data: bytes) -> None:
            last[0] = data
            self._check(target, data)

        try:
            check()
        except Exception as error:  # noqa: BLE001  # whatever comes out is a fault
            self._keep(target, last[0], error)

    def _check(self, target: Target, data: bytes) -> None:
        self.inputs[target.name] += 1
        self._current.write_bytes(data)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.process_time()
        target.run(data)
        seconds = time.process_time() - started
        faulthandler.cancel_dump_traceback_later()
        if seconds > self._cpu_seconds:
            raise Fault(f"{seconds:.1f} s of CPU time for {len(data)} bytes")
        if _peak() - self._memory > MEMORY:
            self._memory = _peak()
            raise Fault(f"more than {MEMORY >> 20} MiB for {len(data)} bytes")

    def _keep(self, target: Target, data: bytes, error: Exception) -> None:
        name = f"{target.name.replace(' ', '-').replace(':', '-')}-{hashlib.sha256(data).hexdigest()[:8]}.bin"
        (self._folder / name).write_bytes(data)
        self.faults[target.name] = data, error


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Fuzz for the time given; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a refusal a line
    faulthandler.enable()
    fuzzer = Fuzzer(arguments.minutes * 60, arguments.seed)
    with targets() as all_targets:
        fuzzer.run([one for one in all_targets if not arguments.target or one.name in arguments.target])
    print(f"seed {arguments.seed}:", ", ".join(f"{name} {count}" for name, count in fuzzer.inputs.items()))
    for name, (data, error) in fuzzer.faults.items():
        print(
            f"\n{name}: {type(error).__name__}: {str(error)[:500]}\n{len(data)} bytes: {data[:SHOWN].hex()}"
        )
    print(f"\n{sum(fuzzer.inputs.values())} inputs, {len(fuzzer.faults)} faults")
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
