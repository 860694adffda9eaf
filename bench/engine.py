"""Our engines beside torchvision's own forward, JPEG bytes to JSON: `python -m bench.engine`.

Then the roofline: the arithmetic of an image, counted, over the machine's fp32 and int8 peaks, measured in
the same run before the first model and after each one. A share can exceed 100 % if a convolution is computed
with fewer multiplications than are counted (Winograd).
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from torchvision.models.detection import FasterRCNN

from bench.harness import pictures, roofline
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.peers.model import Eager, Exported, Model, Ours
from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.engines.choice import TORCH_THREADS_BESIDE_OPENVINO
from models.engines.protocol import Engine
from models.engines.torch_engine import TorchEngine
from models.exporting.source import Source
from models.networks import build_network
from models.options import Options
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


def main() -> None:
    """Print medians and ratios, and the roofline."""
    arguments, machine = _arguments(), describe_machine()
    peaks, rows, works = [roofline.measure_peaks(arguments.device)], [], {}
    for name in arguments.models:
        times, works[name] = compare(name, arguments)
        rows += list(table_rows(name, times))
        peaks.append(roofline.measure_peaks(arguments.device))
    best = roofline.best(peaks)
    parts = [part for row in rows for part in roofline.shares(works[row["model"]], best, row)]
    print_table(f"{_describe(arguments)}; {title(machine)}", COLUMNS, rows)
    print_table(f"Measured peaks: {roofline.describe(best)}", roofline.COLUMNS, parts)
    write_json(arguments.json, machine, rows=rows, peaks_gflops=best, roofline=parts)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards")
    parser.add_argument("--no-int8", action="store_true", help="leave out int8, which may be quantized here")
    parser.add_argument("--exported", action="store_true", help="also the files of `rcnn export`")
    return parser.parse_args()


def _describe(arguments: argparse.Namespace) -> str:
    cuda = arguments.device.startswith("cuda")
    device = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{arguments.batch} JPEG of 640x480 to JSON, {device}, {versions}"


def table_rows(model: str, times: Mapping[str, Sequence[BatchTime]]) -> Iterator[dict[str, Any]]:
    """A row an engine, ready for JSON: medians."""
    seconds = {engine: median(batch.seconds for batch in batches) for engine, batches in times.items()}
    for engine, batches in times.items():
        yield {
            "model": model,
            "engine": engine,
            "ms": seconds[engine] * 1000,
            "images_per_second": 1 / seconds[engine],
            "ratio": seconds[EAGER] / seconds[engine],
            "stages_ms": {
                name: median(batch.stages[name] for batch in batches) * 1000 for name in batches[0].stages
            },
        }


def compare(name: str, arguments: argparse.Namespace) -> tuple[dict[str, list[BatchTime]], roofline.Work]:
    """Times of torchvision and each available engine, in turns, and the arithmetic of the image.

    The first round warms up and does not count.
    """
    card, threads, image = find_card(name, None), torch.get_num_threads(), pictures.jpeg()
    network = _network(card).to(arguments.device)
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    images = [image] * arguments.batch
    runners = {EAGER: Runner(Eager(network, arguments.device), images, threads)}
    for label, engine in _engines(network, card, arguments.device, not arguments.no_int8).items():
        detector = Detector(network, card, engine)
        model = Ours(detector, TORCHVISION_FLOOR)
        job = model.decode(image)
        detector.get_ready(arguments.batch, job.canvas.key)
        runners[label] = Runner(
            model, images, TORCH_THREADS_BESIDE_OPENVINO if engine.name == "openvino" else threads
        )
    if arguments.exported:
        exported = _exported(network, card)
        runners |= {label: Runner(model, images, threads) for label, model in exported.items()}
    variants = {name: runner.measure for name, runner in runners.items()}
    times = interleaved(variants, range(1 + arguments.rounds))
    torch.set_num_threads(threads)
    proposals = detector.regions(job, detector.proposal_config).proposals
    work = roofline.count(network, job.canvas.key, len(proposals))
    return {engine: batches[1:] for engine, batches in times.items()}, work


def _network(card: Card) -> FasterRCNN:
    """With the bundled weights, or random ones, which leave more candidates to every engine alike."""
    if card.weights_file and card.weights_file.exists():
        return load_network(card.name, None, Path()).network
    return build_network(card.architecture, len(card.labels)).eval()


def _engines(network: FasterRCNN, card: Card, device: str, int8: bool) -> dict[str, Engine]:
    torch_fp32 = build_engine(network, EngineChoice(device, "torch", "fp32"))
    engines: dict[str, Engine] = {"torch fp32": torch_fp32}
    if device == "cpu":
        choice = EngineChoice(device, "openvino")
        engines["openvino fp32"] = build_engine(copy.deepcopy(network), choice)
        if int8:
            engines["openvino int8"] = _int8(network, card)
    else:
        engines["torch fp16, no graphs"] = TorchEngine(network, torch.device(device), "fp16")
        engines["torch fp16"] = build_engine(network, EngineChoice(device, "torch", "fp16"))
    return engines


def _exported(network: FasterRCNN, card: Card) -> dict[str, Model]:
    """The network's files in ONNX Runtime and OpenVINO, with all cores as they come."""
    from models.exporting.graph_files import ONNX, OPENVINO

    source = Source(network, card, "")
    options = Options(TORCHVISION_FLOOR, card.nms_threshold, card.max_detections)
    models: dict[str, Model] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for label, target, name in (("ONNX Runtime", ONNX, "m.onnx"), ("OpenVINO", OPENVINO, "m.xml")):
            path = Path(folder) / name
            target.write(source, options, path)
            models[f"exported to {label}"] = Exported(target.run(source, options, path))
    return models


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
