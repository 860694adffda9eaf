"""AP on drawn scenes: `python -m models.shapes.evaluate --model shapes --count 200`."""

import argparse
import json
from pathlib import Path

from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.evaluation.accuracy import MeasuredOn, measure_precisions
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.predictions import FLOOR
from models.images.decoder import Image
from models.options import Options
from models.shapes.scenes import Scene, draw_scene
from models.zoo.accuracy import Accuracy
from models.zoo.card_text import record_accuracy
from models.zoo.catalogue import find_card
from models.zoo.quantized import fingerprint

HELD_OUT_SEED = 2  # training draws from seed 1


def evaluate_scenes(detector: Detector, count: int, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """The 12 COCO numbers of `detector` on scenes 0..count-1 of `seed`."""
    scenes = (draw_scene(seed, index) for index in range(count))
    pairs = [(scene_truth(scene), _detect(detector, scene)) for scene in scenes]
    return evaluate([truth for truth, _ in pairs], [found for _, found in pairs], detector.card.labels)


def scene_truth(scene: Scene) -> GroundTruth:
    """The objects of a drawn scene."""
    height, width = scene.pixels.shape[:2]
    return GroundTruth(width, height, scene.boxes, scene.labels)


def _detect(detector: Detector, scene: Scene) -> Detections:
    options = Options(FLOOR, detector.card.nms_threshold, detector.card.max_detections)
    return detector.detect([Job(detector.prepare(Image(scene.pixels, "PNG")), options)])[0]


def main() -> None:
    """Print the numbers as JSON, or measure and record each precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="shapes", help="a model's name or the path of its card")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--record", action="store_true", help="each precision's AP in [accuracy] of the card")
    arguments = parser.parse_args()
    spec = DetectorSpec(model=arguments.model, cache_dir=Path("~/.cache/rcnn-serve").expanduser())
    if arguments.record:
        print(_record(spec, arguments.count, arguments.seed).model_dump_json(indent=2, exclude_none=True))
    else:
        print(json.dumps(evaluate_scenes(load_detector(spec), arguments.count, arguments.seed), indent=2))


def _record(spec: DetectorSpec, count: int, seed: int) -> Accuracy:
    """Measure each precision, and write the record on the card."""
    command = f"python -m models.shapes.evaluate --model {spec.model} --count {count} --seed {seed} --record"
    on = MeasuredOn(f"drawn scenes, seed {seed}", count, command)
    measured = measure_precisions(
        spec, lambda detector: evaluate_scenes(detector, count, seed)["AP"], on, lambda line: print(line)
    )
    card = find_card(spec.model, None)
    return record_accuracy(card, measured, fingerprint(card, card.weights_file))


if __name__ == "__main__":
    main()
