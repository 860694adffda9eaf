"""Our image decoder beside libvips: `python -m bench.images.decoders` (needs the extra `dev`).

Decodes JPEGs of 0.3, 2 and 12 megapixels in turns, then files that consist of one unit of a format's grammar
(tests/support/data/image_units.py), a process for each format and decoder: the CPU seconds of the slowest
file, the growth of the peak RSS, and how many files are refused. libvips reads with no check of ours but the
number of pixels: what it takes more is what our readers of headers save.
`--only times` is for `python -m bench.compare`.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import pictures
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from models.images.decoder import ImageError, Limits, decode

SIZES = {"0.3 MP": (640, 480), "2 MP": (1600, 1200), "12 MP": (4000, 3000)}
LIMITS = Limits(50_000_000)
TIMES: Columns = {"size": "{size}", "decoder": "{decoder}", "ms": "{ms:.2f}"}
COSTS: Columns = {
    "format": "{format}",
    "files": "{files}",
    "decoder": "{decoder}",
    "refused": "{refused}",
    "slowest, s": "{seconds:.2f}",
    "slowest file": "{slowest}",
    "peak RSS, MiB": "{mib:.0f}",
    "end": "{end}",
}
TOO_LONG = 120  # seconds for a format


def ours(data: bytes) -> str:
    """Decode with our decoder; what came of it."""
    try:
        decode(data, LIMITS)
    except ImageError:
        return "refused"
    return "decoded"


def libvips(data: bytes) -> str:
    """Decode with libvips to upright RGB on white, its pixels checked against the limit first."""
    import pyvips

    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="error")
        if image.width * image.height > LIMITS.max_pixels:
            return "refused"
        image = image.autorot().colourspace("srgb")
        (image.flatten(background=255) if image.hasalpha() else image).write_to_memory()
    except pyvips.Error:
        return "refused"
    return "decoded"


DECODERS: dict[str, Callable[[bytes], str]] = {"ours": ours, "libvips": libvips}


def jpeg_times(rounds: int, names: list[str]) -> list[dict[str, object]]:
    """The least CPU milliseconds of each size and decoder, taken in turns: other work adds to the others."""
    rows: list[dict[str, object]] = []
    for size, shape in SIZES.items():
        data = pictures.jpeg(shape)

        def seconds(decoder: Callable[[bytes], str], data: bytes = data) -> Callable[[int], float]:
            def run(_: int) -> float:
                started = time.process_time()
                decoder(data)
                return time.process_time() - started

            return run

        found = interleaved({name: seconds(DECODERS[name]) for name in names}, range(rounds))
        rows += [{"size": size, "decoder": name, "ms": 1000 * min(times)} for name, times in found.items()]
    return rows


def cost(decoder: str, folder: Path, names: list[str]) -> dict[str, object]:
    """What a format's files, numbered in that folder, cost a decoder in a process of its own."""
    command = [sys.executable, "-m", "bench.images.decoders", "--each", decoder, str(folder)]
    end = "all read"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOO_LONG, check=False)  # noqa: S603  # ours
        output, end = done.stdout, end if done.returncode == 0 else f"crash {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, end = (error.stdout or b"").decode(), f"more than {TOO_LONG} s"
    found = [line.split() for line in output.splitlines()]
    seconds, number = max(((float(line[2]), int(line[0])) for line in found), default=(0.0, 0))
    return {
        "decoder": decoder,
        "files": len(found),
        "refused": sum(1 for line in found if line[1] == "refused"),
        "seconds": seconds,
        "slowest": names[number],
        "mib": max((float(line[3]) for line in found), default=0.0),
        "end": end,
    }


def each(decoder: str, folder: str) -> None:
    """Decode the folder's files, after a small one, and print what each cost."""
    run = DECODERS[decoder]
    run(pictures.jpeg((64, 64)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(Path(folder).iterdir(), key=lambda path: int(path.name)):
        data = path.read_bytes()
        started = time.process_time()
        outcome = run(data)
        seconds = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(path.name, outcome, seconds, grown, flush=True)


def costs(megabytes: int) -> list[dict[str, object]]:
    """A row for each format and decoder, of files of so many megabytes."""
    from tests.support.data.image_units import UNITS

    rows: list[dict[str, object]] = []
    for format in dict.fromkeys(name.split()[0] for name in UNITS):
        names = [name for name in UNITS if name.split()[0] == format]
        with tempfile.TemporaryDirectory() as folder:
            for number, name in enumerate(names):
                (Path(folder) / str(number)).write_bytes(UNITS[name](megabytes * 1_000_000))
            rows += [{"format": format, **cost(decoder, Path(folder), names)} for decoder in DECODERS]
    return rows


def main() -> None:
    """Print both tables."""
    if sys.argv[1:2] == ["--each"]:
        each(*sys.argv[2:4])
        return
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--megabytes", type=int, default=20, help="of the files of one unit")
    parser.add_argument("--only", choices=["times", "costs"], help="one of the two tables")
    parser.add_argument("--decoders", nargs="+", default=list(DECODERS), choices=list(DECODERS))
    arguments, machine = parser.parse_args(), describe_machine()
    rows: list[dict[str, object]] = []
    if arguments.only != "costs":
        rows = jpeg_times(arguments.rounds, arguments.decoders)
        print_table(f"JPEGs; {title(machine)}", TIMES, rows)
    if arguments.only != "times":
        found = costs(arguments.megabytes)
        print_table(f"files of one unit, {arguments.megabytes} MB; {title(machine)}", COSTS, found)
        rows = rows or found
    write_json(arguments.json, machine, rows=rows)


if __name__ == "__main__":
    main()
