"""Validation of a network on annotated images, during and after training."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.models.detection import FasterRCNN

from models.datasets import AnnotatedImage, Dataset, DatasetError
from models.detections import Detections
from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.evaluation.assessment import Assessment, assess
from models.evaluation.candidates import KEEP_ALL, MAX_PROPOSALS, suppress
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.local import best_batch, detect_files
from models.evaluation.predictions import FLOOR
from models.options import Options
from models.training.batches import LIMITS
from models.training.resume import write_whole
from models.zoo.card_text import card_text
from models.zoo.cards import Card
from models.zoo.weights import save_weights

MODEL, WEIGHTS = "model.toml", "weights.safetensors"  # files of a run
THRESHOLDS = np.arange(0.05, 0.96, 0.05)
NMS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
EQUAL = 0.001  # differences in AP50 below this are noise


class NewestModel:
    """Validates the weights of a run, and writes the best ones so far as a model: a stopped run has one."""

    def __init__(self, out: Path, card: Card, val: Dataset | None, command: str, steps: int) -> None:
        self._out, self._card, self._val = out, card, val
        self._training: dict[str, object] = {"command": command}
        self._steps = steps

    def validate(self, network: FasterRCNN) -> float:
        """AP on the validation images."""
        assessment = assess_network(network, self._card, self._val.images if self._val else ())
        self._card = self._card.model_copy(update={"score_threshold": best_threshold(assessment)})
        self._training["ap"] = round(assessment.numbers["AP"], 4)
        return assessment.numbers["AP"]

    def keep(self, network: FasterRCNN, step: int) -> None:
        """Write the network as the model; raises WeightsError, OSError."""
        sha256 = save_weights(network, self._out / WEIGHTS, half=True)
        unfinished = {"unfinished": f"the best of {step} of {self._steps} steps"}
        text = card_text(
            self._card.model_copy(update={"sha256": sha256, "training": self._training | unfinished})
        )
        write_whole(self._out / MODEL, text)


def assess_network(network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]) -> Assessment:
    """The assessment of `network` with the thresholds of `card`; the network is not changed."""
    options = Options(FLOOR, card.nms_threshold, card.max_detections)
    readable, predictions = _detect(network, card, images, options)
    return assess(_truths(readable), predictions, card.labels, card.score_threshold)


def choose_thresholds(
    network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]
) -> tuple[Card, Assessment, Sequence[AnnotatedImage]]:
    """The card with the best thresholds for these images, its assessment, and those that could be read."""
    everything = Options(FLOOR, KEEP_ALL, MAX_PROPOSALS * len(card.labels))
    readable, candidates = _detect(network, card, images, everything)
    truths = _truths(readable)
    nms_threshold = _best_nms_threshold(truths, candidates, card)
    predictions = [suppress(each, nms_threshold) for each in candidates]
    score_threshold = best_threshold(assess(truths, predictions, card.labels, card.score_threshold))
    chosen = {"nms_threshold": nms_threshold, "score_threshold": score_threshold}
    assessment = assess(truths, predictions, card.labels, score_threshold)
    return card.model_copy(update=chosen), assessment, readable


def _best_nms_threshold(truths: list[GroundTruth], candidates: list[Detections], card: Card) -> float:
    """The threshold with the highest AP50; of nearly equal ones the nearest to the card's.

    Not by AP, which rises with duplicates: of several boxes on one object one may fit better.
    """
    tried = {
        threshold: evaluate(truths, [suppress(each, threshold) for each in candidates], card.labels)["AP50"]
        for threshold in NMS_THRESHOLDS
    }
    enough = max(tried.values()) - EQUAL
    good = [threshold for threshold, value in tried.items() if value >= enough]
    return min(good, key=lambda threshold: abs(threshold - card.nms_threshold))


def _detect(
    network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage], options: Options
) -> tuple[list[AnnotatedImage], list[Detections]]:
    """The images that can be read, and the detections in each; raises DatasetError if none can."""
    copied = copy.deepcopy(network).eval()  # an engine changes the memory layout of the weights
    device = str(next(network.parameters()).device)
    # torch: compiling costs more than it saves, as the weights change with every epoch.
    choice = EngineChoice(device=device, engine="torch", precision="fp32")
    detector = Detector(copied, card, build_engine(copied, choice))
    files = [image.path for image in images]
    found = {
        each.index: each for each in detect_files(detector, files, options, LIMITS, best_batch(detector))
    }
    readable = [index for index in range(len(files)) if not found[index].unreadable]
    if not readable:
        raise DatasetError(
            f"none of the {len(files)} images can be read any more: {files[0]}: {found[0].fault}"
        )
    return [images[index] for index in readable], [found[index].detections for index in readable]


def _truths(images: Sequence[AnnotatedImage]) -> list[GroundTruth]:
    return [GroundTruth.of(image) for image in images]


def best_threshold(assessment: Assessment) -> float:
    """The score threshold with the highest F1 over all objects at IoU 0.5, in steps of 0.05."""
    return round(float(max(THRESHOLDS, key=lambda threshold: _f1(assessment, threshold))), 2)


def _f1(assessment: Assessment, threshold: float) -> float:
    correct = detected = objects = 0.0
    for report in assessment.classes:
        precision, recall = report.curve.at(threshold)
        correct += recall * report.objects
        detected += recall * report.objects / precision if precision else 0.0
        objects += report.objects
    return 2 * correct / (detected + objects) if detected + objects else 0.0
