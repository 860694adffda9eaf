"""Our engines beside torchvision's own forward, JPEG bytes to JSON: `python -m bench.engine`."""

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

from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.engines.protocol import Engine
from models.engines.torch_engine import TorchEngine
from models.images import Limits, decode
from models.networks import build_network
from models.options import Options
from models.training.synthetic import draw_scene
from models.zoo.cards import Card
from models.zoo.catalogue import find_card
from models.zoo.quantized import folder_name

MODELS = ("shapes", "coco-mobilenet-fpn", "coco-r50-fpn")
SIZE = (640, 480)
LIMITS = Limits(max_pixels=10**7)
EAGER = "torchvision eager"
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
    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, keep: bool) -> None:
        """Run once; the first time is for warming up."""
        stages: dict[str, float] = {}
        started = time.perf_counter()
        self.run(stages.__setitem__)
        if keep:
            self.seconds.append(time.perf_counter() - started)
            for name, seconds in stages.items():
                self.stages[name].append(seconds)


def main() -> None:
    """Print medians and ratios; timing does not depend on the weights, which are random."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="images at a time")
    parser.add_argument("--models", nargs="*", default=MODELS, help="names of cards")
    parser.add_argument("--no-int8", action="store_true", help="leave out int8, which is quantized here")
    parser.add_argument("--json", type=Path, help="write the figures, with machine and versions, to a file")
    arguments = parser.parse_args()
    machine = _machine(arguments.device, arguments.batch)
    table = Table("model", "engine", "ms", "images/s", "ratio", *STAGES, title=machine)
    rows = []
    for name in arguments.models:
        setup = Setup(arguments.device, arguments.rounds, arguments.batch, not arguments.no_int8)
        runners = compare(name, setup)
        for engine, runner in runners.items():
            row = _row(name, engine, runner, runners[EAGER]) | {"batch": arguments.batch}
            row["images_per_second"] *= arguments.batch
            rows.append(row)
            stages = [
                f"{row['stages_ms'][stage]:.1f}" if stage in row["stages_ms"] else "-" for stage in STAGES
            ]
            values = f"{row['ms']:.1f}", f"{row['images_per_second']:.2f}", f"{row['ratio']:.2f}"
            table.add_row(name, engine, *values, *stages)
    Console(width=150).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


def compare(model: str, setup: Setup) -> dict[str, Runner]:
    """Torchvision and each engine there is, in turns: A B C D, A B C D, …"""
    card = find_card(model, None)
    network = build_network(card.architecture, len(card.labels)).eval().to(setup.device)
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    data = _picture()
    runners = {EAGER: Runner(_theirs(network, [data] * setup.batch, setup.device))}
    for name, engine in _engines(network, card, setup).items():
        detector = Detector(network, card, engine)
        engine.get_ready(setup.batch, detector.prepare(decode(data, LIMITS)).key)
        runners[name] = Runner(_ours(detector, [data] * setup.batch))
    for keep in [False, *[True] * setup.rounds]:
        for runner in runners.values():
            runner.measure(keep)
    return runners


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
    card = detector.card
    options = Options(0.05, card.nms_threshold, card.max_detections)  # torchvision's own floor

    def run(observe: Callable[[str, float], None]) -> object:
        started = time.perf_counter()
        jobs = [Job(detector.prepare(decode(data, LIMITS)), options) for data in files]
        observe("decode", time.perf_counter() - started)
        names = ("boxes", "labels", "scores")
        return [
            json.dumps({name: getattr(found, name).tolist() for name in names})
            for found in detector.detect(jobs, observe)
        ]

    return run


def _row(model: str, engine: str, runner: Runner, eager: Runner) -> dict[str, Any]:
    median = statistics.median(runner.seconds)
    return {
        "model": model,
        "engine": engine,
        "ms": median * 1000,
        "images_per_second": 1 / median,
        "ratio": statistics.median(eager.seconds) / median,
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
