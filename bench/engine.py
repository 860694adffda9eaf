"""Our engines beside torchvision's own forward, JPEG bytes to JSON: `python -m bench.engine`.

Then the roofline: the arithmetic of an image, counted, over the machine's fp32 and int8 peaks, measured in
the same run before the first model and after each one. A share can exceed 100 % if a convolution is computed
with fewer multiplications than are counted (Winograd).
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.models.detection import FasterRCNN

from bench.harness import pictures, roofline
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.peers.model import Eager, Model, Ours
from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.engines.choice import BESIDE_OPENVINO
from models.engines.protocol import Engine
from models.engines.torch_engine import TorchEngine
from models.networks import build_network
from models.zoo.cards import Card
from models.zoo.catalogue import find_card
from models.zoo.loading import load_network
from models.zoo.quantized import folder_name

MODELS = ("shapes", "blood-cells", "coco-mobilenet-fpn", "coco-r50-fpn")
TORCHVISION_FLOOR = 0.05  # the lowest score that torchvision's own forward keeps
EAGER = "torchvision eager"
SETTLE_SECONDS = 0.05  # before each run, until the threads of the last one stop spinning
STAGES = ("decode", "dense", "proposals", "roi_align", "head", "postprocess")
COLUMNS: Columns = {
    "model": "{model}",
    "engine": "{engine}",
    "ms": "{ms:.1f}",
    "images/s": "{images_per_second:.2f}",
    "ratio": "{ratio:.2f}",
    **{stage: f"{{stages_ms[{stage}]:.1f}}" for stage in STAGES},
}


@dataclass(frozen=True)
class Setup:
    """What is measured: on which device, how many rounds, how many images at a time, and whether int8 too."""

    device: str
    rounds: int
    batch: int
    int8: bool


@dataclass(frozen=True)
class BatchTime:
    """Seconds of one batch, and of its stages, an image."""

    seconds: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Runner:
    """One engine on a batch of JPEGs."""

    model: Model
    images: Sequence[bytes]
    threads: int  # of torch: its default, or what our engine chose

    def measure(self, _: int) -> BatchTime:
        """JPEG bytes to JSON, once."""
        stages: dict[str, float] = {}
        torch.set_num_threads(self.threads)
        time.sleep(SETTLE_SECONDS)
        started = time.perf_counter()
        decoded = [self.model.decode(image) for image in self.images]
        stages["decode"] = time.perf_counter() - started
        json.dumps(self.model.predict(decoded, stages.__setitem__))
        seconds, count = time.perf_counter() - started, len(self.images)
        return BatchTime(seconds / count, {name: stage / count for name, stage in stages.items()})


@dataclass(frozen=True)
class ModelComparison:
    """One model: the times of each engine, the first torchvision's, and the arithmetic of an image."""

    times: dict[str, list[BatchTime]]
    work: roofline.Work

    def rows(self, model: str) -> list[dict[str, Any]]:
        """A row an engine, ready for JSON."""
        seconds = {name: statistics.median(t.seconds for t in times) for name, times in self.times.items()}
        return [
            {
                "model": model,
                "engine": engine,
                "ms": seconds[engine] * 1000,
                "images_per_second": 1 / seconds[engine],
                "ratio": seconds[EAGER] / seconds[engine],
                "stages_ms": {
                    name: statistics.median(t.stages[name] for t in times) * 1000 for name in times[0].stages
                },
            }
            for engine, times in self.times.items()
        ]


def main() -> None:
    """Print medians and ratios, and the roofline."""
    arguments, machine = _arguments(), describe_machine()
    setup = Setup(arguments.device, arguments.rounds, arguments.batch, not arguments.no_int8)
    peaks, comparisons = [roofline.measure_peaks(setup.device)], {}
    for name in arguments.models:
        comparisons[name] = compare(name, setup)
        peaks.append(roofline.measure_peaks(setup.device))
    best = roofline.best(peaks)
    rows = [row for name, comparison in comparisons.items() for row in comparison.rows(name)]
    parts = [part for row in rows for part in roofline.shares(comparisons[row["model"]].work, best, row)]
    print_table(f"{_describe(setup)}; {title(machine)}", COLUMNS, rows)
    print_table(f"Measured peaks: {roofline.describe(best)}", roofline.COLUMNS, parts)
    write_json(arguments.json, machine, rows=rows, peaks_gflops=best, roofline=parts)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards")
    parser.add_argument("--no-int8", action="store_true", help="leave out int8, which may be quantized here")
    return parser.parse_args()


def _describe(setup: Setup) -> str:
    cuda = setup.device.startswith("cuda")
    device = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{setup.batch} JPEG of 640x480 to JSON, {device}, {versions}"


def compare(name: str, setup: Setup) -> ModelComparison:
    """torchvision and each available engine, in turns; the first round warms up and does not count."""
    card, threads, image = find_card(name, None), torch.get_num_threads(), pictures.jpeg()
    network = _network(card).to(setup.device)
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    images = [image] * setup.batch
    runners = {EAGER: Runner(Eager(network, setup.device), images, threads)}
    for label, engine in _engines(network, card, setup).items():
        detector = Detector(network, card, engine)
        model = Ours(detector, TORCHVISION_FLOOR)
        job = model.decode(image)
        engine.get_ready(setup.batch, job.canvas.key)
        runners[label] = Runner(model, images, BESIDE_OPENVINO if engine.name == "openvino" else threads)
    variants = {name: runner.measure for name, runner in runners.items()}
    times = interleaved(variants, range(1 + setup.rounds))
    torch.set_num_threads(threads)
    proposals = detector.regions(job, detector.proposal_config).proposals
    work = roofline.count(network, job.canvas.key, len(proposals))
    return ModelComparison({name: taken[1:] for name, taken in times.items()}, work)


def _network(card: Card) -> FasterRCNN:
    """With the bundled weights, or random ones, which leave more candidates to every engine alike."""
    if card.weights_file and card.weights_file.exists():
        return load_network(card.name, None, Path()).network
    return build_network(card.architecture, len(card.labels)).eval()


def _engines(network: FasterRCNN, card: Card, setup: Setup) -> dict[str, Engine]:
    torch_fp32 = build_engine(network, EngineChoice(setup.device, "torch", "fp32"))
    engines: dict[str, Engine] = {"torch fp32": torch_fp32}
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
    """The bundled artefact, or one calibrated here on a single image: its accuracy does not matter here."""
    from models.engines.conversion import convert, read_parts
    from models.engines.openvino_engine import OpenVINOEngine
    from models.quantization.calibration import RecordingEngine, calibrate
    from models.quantization.post_training import quantize

    bundled = card.path.parent / folder_name(card) if card.path else Path()
    if bundled.is_dir():
        return OpenVINOEngine(read_parts(bundled), "int8", 0)
    parts = convert(copy.deepcopy(network))
    recorder = RecordingEngine(OpenVINOEngine(parts, "fp32", 0))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        image = pictures.write(Path(folder) / "scene.jpg")
        calibration = calibrate(Detector(network, card, recorder), recorder, [image])
    return OpenVINOEngine(quantize(parts, calibration, ()), "int8", 0)


if __name__ == "__main__":
    main()
