"""What the detector reaches on a GPU: `python -m bench.gpu.report`.

For each batch size: batches back to back with the canvases on the device (engine alone), with the upload on
threads beside it, torchvision on the same images (eager, eager in fp16, compiled by inductor, and through
TensorRT if torch_tensorrt is installed), and our ONNX file in ONNX Runtime. Then closed loops over HTTP.
Shares are of a matmul and of a copy that are measured on the same device before. `--quick` runs all of it on
a CPU in a minute, to see that it works; its numbers mean nothing.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.gpu.measuring import (
    count_operations,
    is_cuda,
    peak_memory,
    profile_calls,
    seconds_per_batch,
)
from bench.gpu.onnx_rival import onnx_rivals
from bench.gpu.peaks import Demand, Peaks, demand, measure_peaks
from bench.gpu.variants import Variant, our_variants, rivals
from bench.harness import cards, pictures
from bench.harness.load import LoadPlan, measure
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.service import serving
from bench.peers.model import LIMITS
from models.detector import Detector, DetectorSpec, load_detector
from models.images.decoder import decode
from models.zoo.loading import load_network

CONNECTIONS = (1, 16, 64, 256)
STAGES = ("graph", "dense", "proposals", "roi_align", "head", "postprocess")
COLUMNS: Columns = {
    "variant": "{variant}",
    "batch": "{batch}",
    "images/s": "{images_per_second:.1f}",
    "ms": "{ms:.2f}",
    "operations": "{operations}",
    "launches": "{launches}",
    "waits": "{waits}",
    "of peak": "{share_of_peak:.0%}",
    "of bandwidth": "{share_of_bandwidth:.0%}",
    "MiB": "{mebibytes:.0f}",
    "failed": "{failed}",
}
IN_STAGES: Columns = {
    "ms a batch": "{variant}",
    "batch": "{batch}",
    **{stage: f"{{stages_ms[{stage}]:.2f}}" for stage in STAGES},
}
HTTP: Columns = {
    "connections": "{connections}",
    "images/s": "{images_per_second:.1f}",
    "p50, ms": "{p50_ms:.1f}",
    "p99, ms": "{p99_ms:.1f}",
}


def main() -> None:
    """Print the tables."""
    arguments, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        model, peaks = cards.find(arguments.model, Path(folder)), measure_peaks(arguments.device)
        rows = list(on_device(arguments, model, peaks))
        loads = list(over_http(arguments, model, Path(folder)))
    where = torch.cuda.get_device_name(arguments.device) if is_cuda(arguments.device) else "CPU"
    peak = f"{where}: {peaks.flops / 1e12:.1f} TFLOP/s, {peaks.bandwidth / 1e9:.0f} GB/s measured"
    print_table(title(machine), COLUMNS, rows, peak)
    print_table("Stages", IN_STAGES, [row for row in rows if "stages_ms" in row])
    print_table("Over HTTP, closed loops", HTTP, loads)
    write_json(arguments.json, machine, device=where, peaks=vars(peaks), rows=rows, http=loads)


def on_device(arguments: argparse.Namespace, model: str, peaks: Peaks) -> Iterator[dict[str, Any]]:
    """A row for each batch size and variant."""
    device, cache = arguments.device, Path(tempfile.gettempdir())
    precision = "fp32" if arguments.quick else "auto"  # what auto takes on a CPU depends on the machine
    detector = load_detector(DetectorSpec(model, cache, device=device, precision=precision))
    detector.warm_up(max(arguments.batches))
    network = load_network(model, None, cache).network.to(device)
    card = detector.card
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    asked = demand(network, _canvas(detector), detector.proposal_config.post_nms)
    for batch in arguments.batches:
        jpegs = [pictures.jpeg(index=index) for index in range(batch)]
        with ExitStack() as stack:
            variants = [*our_variants(detector, jpegs, arguments.threads, stack)]
            variants += rivals(network, device, jpegs, arguments.backend)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            variants += onnx_rivals(model, device, folder, jpegs)
            yield from measure_variants(variants, batch, arguments, (asked, peaks))


def _canvas(detector: Detector) -> tuple[int, int]:
    return detector.prepare(decode(pictures.jpeg(), LIMITS)).key


def measure_variants(
    variants: list[Variant], batch: int, arguments: argparse.Namespace, limits: tuple[Demand, Peaks]
) -> Iterator[dict[str, Any]]:
    """Rows of one batch size, measured in turns; a variant that fails has its error in place of numbers."""
    failed = {variant.name: error for variant in variants if (error := _error_of(variant))}
    working = [variant for variant in variants if variant.name not in failed]
    runs = {
        variant.name: partial(seconds_per_batch, variant.run, arguments.device, arguments.seconds)
        for variant in working
    }
    times = interleaved(runs, range(arguments.rounds))
    asked, peaks = limits
    for variant in working:
        seconds = median(times[variant.name])
        row = {"variant": variant.name, "batch": batch, "ms": seconds * 1000}
        rate = batch / seconds
        yield {**row, "images_per_second": rate, **asked.shares(rate, peaks), **_details(variant, arguments)}
    for name, error in failed.items():
        yield {"variant": name, "batch": batch, "failed": error}


def _details(variant: Variant, arguments: argparse.Namespace) -> dict[str, Any]:
    """Stages, operations, launches, waits and memory of one more batch each."""
    counted = variant.on_thread(lambda: count_operations(variant.run))
    details: dict[str, Any] = {"operations": counted}
    if variant.stages is not None:
        stages: dict[str, float] = {}
        variant.stages(stages.__setitem__)
        details["stages_ms"] = {name: seconds * 1000 for name, seconds in stages.items()}
    details |= profile_calls(variant.run, arguments.device)
    return details | peak_memory(variant.run, arguments.device)


def _error_of(variant: Variant) -> str | None:
    """Run it twice: compilers work in the first run, and may not exist on this machine."""
    try:
        for _ in range(2):
            variant.run()
    except (RuntimeError, ImportError, AssertionError, OSError, ValueError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:60]
    return None


def over_http(arguments: argparse.Namespace, model: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each number of connections."""
    settings = {"model": model, "device": arguments.device, "max_queue": 2 * max(CONNECTIONS)}
    image = pictures.write(folder / "scene.jpg")
    with serving(**settings) as (target, _):
        for connections in CONNECTIONS[: 2 if arguments.quick else None]:
            result = measure(target, [image], LoadPlan(connections, arguments.seconds))
            yield {"connections": connections, **vars(result)}


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default=cards.HEAVY, help=f"name or path of a card, or {cards.HEAVY}")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each variant in a round")
    parser.add_argument("--threads", type=int, default=8, help="that prepare images")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--quick", action="store_true", help="on the CPU, to see that it works")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.model, arguments.device, arguments.backend = "shapes", "cpu", "eager"
        arguments.batches, arguments.rounds, arguments.seconds, arguments.threads = [1], 1, 0.1, 2
    return arguments


if __name__ == "__main__":
    main()
