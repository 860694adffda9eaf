"""The AP of one model in each precision that this machine has, for the [accuracy] of its card."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from models.datasets import Dataset
from models.detector import Detector, DetectorSpec, load_detector
from models.engines import EngineUnavailable, PrecisionOverflow, precisions_of
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.labels import match_labels
from models.evaluation.local import detect_files
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS
from models.images.decoder import Limits
from models.options import Options
from models.precision.machine import machine_name
from models.zoo.accuracy import Accuracy
from models.zoo.quantized import QuantizedError

LIMITS = Limits(max_pixels=100_000_000)  # the images are the user's own
DIGITS = 4

Report = Callable[[str], None]
Measure = Callable[[Detector], float]


@dataclass(frozen=True)
class MeasuredOn:
    """What an AP was measured on: a title of the data, its images, and the command."""

    data: str
    images: int
    command: str


def measure_ap(detector: Detector, data: Dataset) -> float:
    """COCO's AP on annotated images, 0 to 1; classes are matched by name. Raises ValueError without one."""
    match = match_labels(data.labels, detector.card.labels)
    if not match.known:
        raise ValueError(f"{detector.card.name} has no class of the data; name data with its classes")
    options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS, match.known)
    images = data.images
    results = list(detect_files(detector, [each.path for each in images], options, LIMITS, batch=1))
    readable = [result for result in results if not result.unreadable]
    truths = [GroundTruth.of(images[result.index]) for result in readable]
    found = [match.translate(result.detections) for result in readable]
    value = evaluate(truths, found, data.labels)["AP"]
    if value < 0:
        raise ValueError("no AP: no image that can be read has an object; name other data")
    return value


def measure_precisions(spec: DetectorSpec, measure: Measure, on: MeasuredOn, report: Report) -> Accuracy:
    """The AP of the model in each precision of its engine and device; `report` gets a line for each."""
    measured: dict[str, float] = {}
    for detector in _detectors(spec, report):
        measured[detector.precision] = round(measure(detector), DIGITS)
        report(f"{detector.precision}: AP {measured[detector.precision]:.4f} on {on.images} images")
    return accuracy_record(measured, on)


def accuracy_record(measured: dict[str, float], on: MeasuredOn) -> Accuracy:
    """The record of these values, measured on this machine today."""
    about = {"data": on.data, "images": on.images, "command": on.command}
    return Accuracy.model_validate(
        {**measured, **about, "machine": machine_name(), "date": str(date.today())}
    )


def _detectors(spec: DetectorSpec, report: Report) -> Iterator[Detector]:
    """The model in each precision that can run here, fp32 first."""
    exact = load_detector(replace(spec, precision="fp32"))
    yield exact
    for precision in precisions_of(exact.engine_name, exact.device):
        if precision == exact.precision:
            continue
        try:
            detector = load_detector(replace(spec, precision=precision))
        except (EngineUnavailable, QuantizedError, PrecisionOverflow) as error:
            report(f"{precision} is not measured: {error}")
            continue
        yield detector
