"""How good a network is on annotated images, while it is trained and at the end."""

import copy
from collections.abc import Sequence

import numpy as np
from torchvision.models.detection import FasterRCNN

from models.datasets import AnnotatedImage
from models.detections import Detections
from models.detector import Detector
from models.engines import EngineChoice, build_engine
from models.evaluation.assessment import Assessment, assess
from models.evaluation.candidates import KEEP_ALL, MOST_PROPOSALS, suppress
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.local import ask_detector, best_batch
from models.options import Options
from models.training.batches import LIMITS
from models.zoo.cards import Card

FLOOR = 0.05  # torchvision's own floor for evaluation
THRESHOLDS = np.arange(0.05, 0.96, 0.05)
NMS_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
EVEN = 0.001  # of AP50: less is chance


def assess_network(network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]) -> Assessment:
    """The assessment of `network` as `card` would serve it; the network itself is left as it is."""
    options = Options(FLOOR, card.nms_threshold, card.max_detections)
    answers = _answers(network, card, images, options)
    return assess(_truths(images), answers, card.labels, card.score_threshold)


def choose_thresholds(
    network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage]
) -> tuple[Card, Assessment]:
    """The card with the thresholds that suit these images best, and its assessment with them."""
    everything = Options(FLOOR, KEEP_ALL, MOST_PROPOSALS * len(card.labels))
    candidates = _answers(network, card, images, everything)
    truths = _truths(images)
    nms_threshold = _best_nms_threshold(truths, candidates, card)
    answers = [suppress(each, nms_threshold) for each in candidates]
    score_threshold = best_threshold(assess(truths, answers, card.labels, card.score_threshold))
    chosen = {"nms_threshold": nms_threshold, "score_threshold": score_threshold}
    return card.model_copy(update=chosen), assess(truths, answers, card.labels, score_threshold)


def _best_nms_threshold(truths: list[GroundTruth], candidates: list[Detections], card: Card) -> float:
    """The one with the highest AP50; of nearly equal ones the nearest to the card's.

    Not by AP, which rises with duplicates: among several boxes on one object one or other lies better.
    """
    tried = {
        threshold: evaluate(truths, [suppress(each, threshold) for each in candidates], card.labels)["AP50"]
        for threshold in NMS_THRESHOLDS
    }
    enough = max(tried.values()) - EVEN
    good = [threshold for threshold, found in tried.items() if found >= enough]
    return min(good, key=lambda threshold: abs(threshold - card.nms_threshold))


def _answers(
    network: FasterRCNN, card: Card, images: Sequence[AnnotatedImage], options: Options
) -> list[Detections]:
    mine = copy.deepcopy(network).eval()  # an engine lays out the weights anew
    device = str(next(network.parameters()).device)
    # torch: a compilation would cost more than it saves on weights that change with every epoch.
    choice = EngineChoice(device=device, engine="torch", precision="fp32")
    detector = Detector(mine, card, build_engine(mine, choice))
    answers = [Detections.empty()] * len(images)
    files = [image.path for image in images]
    for answer in ask_detector(detector, files, options, LIMITS, best_batch(detector)):
        answers[answer.index] = answer.detections
    return answers


def _truths(images: Sequence[AnnotatedImage]) -> list[GroundTruth]:
    return [GroundTruth(i.width, i.height, i.boxes, i.labels, i.crowd) for i in images]


def best_threshold(assessment: Assessment) -> float:
    """The score threshold with the highest F1 over all objects at IoU 0.5, in steps of 0.05."""
    return round(float(max(THRESHOLDS, key=lambda threshold: _f1(assessment, threshold))), 2)


def _f1(assessment: Assessment, threshold: float) -> float:
    found = claimed = objects = 0.0
    for one in assessment.classes:
        precision, recall = one.curve.at(threshold)
        right = recall * one.objects
        found += right
        claimed += right / precision if precision else 0.0
        objects += one.objects
    return 2 * found / (claimed + objects) if claimed + objects else 0.0
