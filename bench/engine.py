"""Our engines beside torchvision's own forward, JPEG bytes to JSON: `python -m bench.engine`.

Then the roofline: the arithmetic of an image, counted, over the machine's fp32 and int8 peaks, measured in
the same run before the first model and after each one. A share could pass 100 %, where a convolution is
computed with fewer multiplications than are counted (Winograd).
"""

import argparse
import copy
import io
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image as PillowImage
from rich.console import Console
from rich.table import Table
from torchvision.models.detection import FasterRCNN

from bench.harness import roofline
from bench.harness.options import command_line, write_json
from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.choice import BESIDE_OPENVINO
from models.engines.protocol import Engine
from models.engines.torch_engine import TorchEngine
from models.images.decoder import Limits, decode
from models.networks import build_network
from models.options import Options
from models.shapes.scenes import draw_scene
from models.zoo.cards import Card
from models.zoo.catalogue import find_card
from models.zoo.loading import load_network
from models.zoo.quantized import folder_name

MODELS = ("shapes", "blood-cells", "coco-mobilenet-fpn", "coco-r50-fpn")
SIZE = (640, 480)
LIMITS = Limits(max_pixels=10**7)
EAGER = "torchvision eager"
SETTLE = 0.05  # seconds before each run: the threads of the one before have stopped spinning
STAGES = ("decode", "dense", "proposals", "roi_align", "head", "postprocess")


@dataclass(frozen=True)
class Setup:
    """What is measured: on which device, how often, how many images at a time, and whether int8 too."""

    device: str
    rounds: int
    batch: int
    int8: bool


@dataclass
class Runner:
    """One way to answer; `stages` collects seconds of each run."""

    run: Callable[[Callable[[str, float], None]], object]
    threads: int  # of torch: as many as it has by itself, or as our engine chose
    batch: int
    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, keep: bool) -> None:
        """Run once; the first time is for warming up."""
        stages: dict[str, float] = {}
        torch.set_num_threads(self.threads)
        time.sleep(SETTLE)
        started = time.perf_counter()
        self.run(stages.__setitem__)
        if keep:
            self.seconds.append((time.perf_counter() - started) / self.batch)
            for name, seconds in stages.items():
                self.stages[name].append(seconds / self.batch)


@dataclass(frozen=True)
class Comparison:
    """One model: its runners by the names of their engines, the first torchvision's; its arithmetic."""

    runners: dict[str, Runner]
    work: roofline.Work


def main() -> None:
    """Print medians and ratios, and the roofline."""
    given = _arguments()
    machine, rows, parts = _machine(given.device, given.batch), [], []
    peaks = [roofline.measure_peaks(given.device)]
    compared = {}
    for name in given.models:
        setup = Setup(given.device, given.rounds, given.batch, not given.no_int8)
        compared[name] = compare(name, setup)
        peaks.append(roofline.measure_peaks(given.device))
    best = roofline.best(peaks)
    for name, comparison in compared.items():
        found = [_row(name, engine, runner, comparison) for engine, runner in comparison.runners.items()]
        rows += found
        parts += [part for row in found for part in _parts(row, comparison.work, best)]
    console = Console(width=150)
    console.print(_table(rows, machine))
    console.print(_roofline(parts, best))
    write_json(given.json, {"machine": machine, "rows": rows, "peaks_gflops": best, "roofline": parts})


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards")
    parser.add_argument("--no-int8", action="store_true", help="leave out int8, which is quantized here")
    return parser.parse_args()


def _table(rows: list[dict[str, Any]], heading: str) -> Table:
    table = Table("model", "engine", "ms", "images/s", "ratio", *STAGES, title=heading)
    for row in rows:
        times = row["stages_ms"]
        stages = [f"{times[stage]:.1f}" if stage in times else "-" for stage in STAGES]
        values = f"{row['ms']:.1f}", f"{row['images_per_second']:.2f}", f"{row['ratio']:.2f}"
        table.add_row(row["model"], row["engine"], *values, *stages)
    return table


def _parts(row: dict[str, Any], work: roofline.Work, peaks: roofline.Peaks) -> list[dict[str, Any]]:
    """The roofline's rows of one engine; torchvision's own forward has no parts, only the whole."""
    times = {**row["stages_ms"], "image": row["ms"]}
    return [{"model": row["model"], **part} for part in roofline.shares(work, peaks, row["engine"], times)]


def _roofline(parts: list[dict[str, Any]], peaks: roofline.Peaks) -> Table:
    kinds = [
        f"{kind} {roofline.of_kind(peaks, kind):.0f} GFLOP/s ("
        + ", ".join(f"{kernel} {reached:.0f}" for kernel, reached in kernels.items())
        + ")"
        for kind, kernels in peaks.items()
    ]
    columns = ("model", "engine", "part", "GFLOP an image", "ms at peak", "ms", "of peak")
    table = Table(*columns, title=f"Measured peaks: {'; '.join(kinds)}")
    for part in parts:
        times = f"{part['ms_at_peak']:.1f}", f"{part['ms']:.1f}", f"{part['share_of_peak']:.0%}"
        table.add_row(part["model"], part["engine"], part["part"], f"{part['gflop']:.1f}", *times)
    return table


def compare(model: str, setup: Setup) -> Comparison:
    """Torchvision and each engine there is, in turns: A B C D, A B C D, …"""
    card, threads = find_card(model, None), torch.get_num_threads()
    network = _network(card).to(setup.device)
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    data = [_picture()] * setup.batch
    runners = {EAGER: Runner(_theirs(network, data, setup.device), threads, setup.batch)}
    for name, engine in _engines(network, card, setup).items():
        detector = Detector(network, card, engine)
        engine.get_ready(setup.batch, _job(detector, data[0]).canvas.key)
        beside = BESIDE_OPENVINO if engine.name == "openvino" else threads
        runners[name] = Runner(_ours(detector, data), beside, setup.batch)
    for keep in [False, *[True] * setup.rounds]:
        for runner in runners.values():
            runner.measure(keep)
    torch.set_num_threads(threads)
    return Comparison(runners, _work(network, detector, data[0]))


def _network(card: Card) -> FasterRCNN:
    """With the bundled weights, or random ones, which leave more candidates: that costs everybody alike."""
    if card.weights_file and card.weights_file.exists():
        return load_network(card.name, None, Path()).network
    return build_network(card.architecture, len(card.labels)).eval()


def _work(network: FasterRCNN, detector: Detector, data: bytes) -> roofline.Work:
    """Counted for the canvas and the proposals that the picture has."""
    job = _job(detector, data)
    regions = detector.regions(job, detector.proposal_config)
    return roofline.count(network, job.canvas.key, len(regions.proposals))


def _job(detector: Detector, data: bytes) -> Job:
    card = detector.card
    options = Options(0.05, card.nms_threshold, card.max_detections)  # torchvision's own floor
    return Job(detector.prepare(decode(data, LIMITS)), options)


def _engines(network: FasterRCNN, card: Card, setup: Setup) -> dict[str, Engine]:
    engines = {"torch fp32": build_engine(network, EngineChoice(setup.device, "torch", "fp32"))}
    if setup.device == "cpu":
        choice = EngineChoice(setup.device, "openvino")
        engines["openvino fp32"] = build_engine(copy.deepcopy(network), choice)
        if setup.int8:
            engines["openvino int8"] = _int8(network, card)
    else:
        engines["torch fp16, no graphs"] = TorchEngine(network, torch.device(setup.device), "fp16")
        engines["torch fp16"] = build_engine(network, EngineChoice(setup.device, "torch", "fp16"))
    return engines


def _int8(network: FasterRCNN, card: Card) -> Engine:
    """The bundled artefact, or one made here on a single canvas: how well it answers is no matter here."""
    from models.engines.conversion import convert, read_parts
    from models.engines.openvino_engine import OpenVINOEngine
    from models.quantization.calibration import Calibration, RecordingEngine, calibrate
    from models.quantization.post_training import quantize

    bundled = card.path.parent / folder_name(card) if card.path else Path()
    if bundled.is_dir():
        return OpenVINOEngine(read_parts(bundled), "int8", 0)
    parts = convert(copy.deepcopy(network))
    recorder = RecordingEngine(OpenVINOEngine(parts, "fp32", 0))
    picture = Path("runs") / "bench.jpg"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(_picture())
    calibration: Calibration = calibrate(Detector(network, card, recorder), recorder, [picture])
    return OpenVINOEngine(quantize(parts, calibration, ()), "int8", 0)


def _theirs(network: FasterRCNN, files: list[bytes], device: str) -> Callable[[Any], object]:
    @torch.inference_mode()
    def run(observe: Callable[[str, float], None]) -> object:
        started = time.perf_counter()
        decoded = [np.array(PillowImage.open(io.BytesIO(data)).convert("RGB")) for data in files]
        tensors = [torch.from_numpy(image).permute(2, 0, 1).to(device).float() / 255 for image in decoded]
        observe("decode", time.perf_counter() - started)
        answers = network(tensors)
        return [
            json.dumps({name: value.cpu().tolist() for name, value in answer.items()}) for answer in answers
        ]

    return run


def _ours(detector: Detector, files: list[bytes]) -> Callable[[Any], object]:
    def run(observe: Callable[[str, float], None]) -> object:
        started = time.perf_counter()
        jobs = [_job(detector, data) for data in files]
        observe("decode", time.perf_counter() - started)
        names = ("boxes", "labels", "scores")
        return [
            json.dumps({name: getattr(found, name).tolist() for name in names})
            for found in detector.detect(jobs, observe)
        ]

    return run


def _row(model: str, engine: str, runner: Runner, comparison: Comparison) -> dict[str, Any]:
    median = statistics.median(runner.seconds)
    return {
        "model": model,
        "engine": engine,
        "ms": median * 1000,
        "images_per_second": 1 / median,
        "ratio": statistics.median(comparison.runners[EAGER].seconds) / median,
        "stages_ms": {name: statistics.median(times) * 1000 for name, times in runner.stages.items()},
    }


def _picture() -> bytes:
    """A drawn scene as a 640x480 JPEG."""
    file = io.BytesIO()
    PillowImage.fromarray(draw_scene(9, 0).pixels).resize(SIZE).save(file, "JPEG", quality=90)
    return file.getvalue()


def _machine(device: str, batch: int) -> str:
    what = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    return (
        f"{platform.machine()}, {what}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{date.today()}, {batch} JPEG of {SIZE[0]}x{SIZE[1]} to JSON"
    )


if __name__ == "__main__":
    main()
