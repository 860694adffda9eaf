"""Validation of a network on annotated images, during and after training."""

import copy
from collections.abc import Sequence

import numpy as np
from torchvision.models.detection import FasterRCNN

from models.datasets import AnnotatedImage
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
from models.zoo.cards import Card

THRESHOLDS = np.arange(0.05, 0.96, 0.05)
NMS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
EQUAL = 0.001  # differences in AP50 below this are noise


def assess_network(network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]) -> Assessment:
    """The assessment of `network` with the thresholds of `card`; the network is not changed."""
    options = Options(FLOOR, card.nms_threshold, card.max_detections)
    predictions = _detect(network, card, images, options)
    return assess(_truths(images), predictions, card.labels, card.score_threshold)


def choose_thresholds(
    network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]
) -> tuple[Card, Assessment]:
    """The card with the best thresholds for these images, and its assessment with them."""
    everything = Options(FLOOR, KEEP_ALL, MAX_PROPOSALS * len(card.labels))
    candidates = _detect(network, card, images, everything)
    truths = _truths(images)
    nms_threshold = _best_nms_threshold(truths, candidates, card)
    predictions = [suppress(each, nms_threshold) for each in candidates]
    score_threshold = best_threshold(assess(truths, predictions, card.labels, card.score_threshold))
    chosen = {"nms_threshold": nms_threshold, "score_threshold": score_threshold}
    return card.model_copy(update=chosen), assess(truths, predictions, card.labels, score_threshold)


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
) -> list[Detections]:
    copied = copy.deepcopy(network).eval()  # an engine changes the memory layout of the weights
    device = str(next(network.parameters()).device)
    # torch: compiling costs more than it saves, as the weights change with every epoch.
    choice = EngineChoice(device=device, engine="torch", precision="fp32")
    detector = Detector(copied, card, build_engine(copied, choice))
    predictions = [Detections.empty()] * len(images)
    files = [image.path for image in images]
    for result in detect_files(detector, files, options, LIMITS, best_batch(detector)):
        predictions[result.index] = result.detections
    return predictions


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
