"""Our detector beside torchvision's own forward on the same weights: `python -m bench.engine`."""

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table

from models.detector import Detector, Job
from models.engines import EngineChoice, build_engine
from models.images import Image
from models.networks import build_network
from models.options import Options
from models.zoo.catalogue import find_card

MODELS = ("shapes", "coco-mobilenet-fpn", "coco-r50-fpn")
IMAGE = (480, 640)


def main() -> None:
    """Print milliseconds per image for both and their ratio; timing does not depend on the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = Table("model", "torchvision ms", "ours ms", "ratio", title=_machine(arguments.device))
    for name in MODELS:
        theirs, ours = compare(name, arguments.device, arguments.rounds)
        table.add_row(name, f"{theirs * 1000:.0f}", f"{ours * 1000:.0f}", f"{theirs / ours:.2f}")
    Console().print(table)


def compare(model: str, device: str, rounds: int) -> tuple[float, float]:
    """Median seconds per image of torchvision eager and of our detector, A B A B, from decoded pixels on."""
    card = find_card(model, None)
    network = build_network(card.architecture, len(card.labels)).eval().to(device)
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    pixels = np.random.default_rng(0).integers(0, 256, (*IMAGE, 3), np.uint8)
    ours_network = copy.deepcopy(network)  # an engine lays out its weights anew; theirs stay as they are
    engine = build_engine(ours_network, EngineChoice(device, precision="fp32"))
    detector = Detector(ours_network, card, engine)
    options = Options(card.score_threshold, card.nms_threshold, card.max_detections)

    @torch.inference_mode()
    def theirs() -> None:
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).to(device).float() / 255
        network([tensor])[0]["boxes"].cpu()

    def ours() -> None:
        detector.detect([Job(detector.prepare(Image(pixels, "PNG")), options)])

    return _interleaved(theirs, ours, rounds)


def _interleaved(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float]:
    seconds: tuple[list[float], list[float]] = ([], [])
    for warm_up in [True, *[False] * rounds]:
        for run, times in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            run()
            if not warm_up:
                times.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _machine(device: str) -> str:
    what = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    return (
        f"{platform.machine()}, {what}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{date.today()}, {IMAGE[1]}x{IMAGE[0]} px"
    )


if __name__ == "__main__":
    main()
