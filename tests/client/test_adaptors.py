"""Detections as FiftyOne's, and the service as SAHI's model: with stand-ins of these libraries' interfaces.

FiftyOne brings a MongoDB and SAHI an OpenCV, so neither is installed for the tests.
"""

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rcnn_client import Client, Refused
from tests.client.test_result import result
from tests.support.servers.responses import Scripted, busy, detected


class DetectionModel:
    """What SAHI's own does with a subclass."""

    def __init__(self, model: Any = None, model_path: str | None = None, confidence_threshold: float = 0.3):
        self.model: Any = None
        self.model_path, self.confidence_threshold = model_path, confidence_threshold
        self._original_predictions: Any = None
        self._object_prediction_list_per_image: Any = None
        if model:
            self.set_model(model)
        else:
            self.load_model()

    def set_model(self, model: Any) -> None:
        raise NotImplementedError

    def load_model(self) -> None:
        raise NotImplementedError


@dataclass
class ObjectPrediction:
    bbox: list[float]
    category_id: int
    category_name: str
    score: float
    shift_amount: list[int]
    full_shape: list[int] | None


def lists(values: Any) -> Any:
    """One pair of numbers as a list of it."""
    return [values] if values is not None and isinstance(values[0], int) else values


@pytest.fixture
def adaptor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """rcnn_client.sahi."""
    parts = {
        "sahi.models.base": {"DetectionModel": DetectionModel},
        "sahi.prediction": {"ObjectPrediction": ObjectPrediction},
        "sahi.utils.compatibility": {"fix_shift_amount_list": lists, "fix_full_shape_list": lists},
    }
    for name in ("sahi", "sahi.models", "sahi.utils", *parts):
        module = ModuleType(name)
        vars(module).update(parts.get(name, {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "rcnn_client.sahi", raising=False)
    yield importlib.import_module("rcnn_client.sahi")
    sys.modules.pop("rcnn_client.sahi", None)


def converted(model: Any, shift: Any, shape: Any) -> list[list[ObjectPrediction]]:
    model._create_object_prediction_list_from_original_predictions(shift, shape)
    found: list[list[ObjectPrediction]] = model._object_prediction_list_per_image
    return found


IMAGE = np.zeros((48, 64, 3), np.uint8)


def test_sahi_gets_the_predictions_of_each_slice(adaptor: Any) -> None:
    client = Scripted(detected(), detected(), detected())
    model = adaptor.ServiceModel(model=client, confidence_threshold=0.5)
    model.perform_inference(IMAGE)
    one = ObjectPrediction([1.5, 2.0, 30.0, 40.0], 2, "disc", 0.75, [0, 0], [48, 64])
    assert converted(model, [0, 0], [48, 64]) == [[one]]
    assert client.sent[0].url.params["score_threshold"] == "0.5"
    model.perform_batch_inference([IMAGE, IMAGE])
    found = converted(model, [[0, 0], [64, 0]], [[48, 128]] * 2)
    assert [one.shift_amount for [one] in found] == [[0, 0], [64, 0]]
    assert [one.full_shape for [one] in found] == [[48, 128]] * 2


def test_sahi_gets_the_error_of_the_service_and_an_address(adaptor: Any) -> None:
    model = adaptor.ServiceModel(model=Scripted(busy(None), retries=0))
    with pytest.raises(Refused, match="64 requests wait"):
        model.perform_inference(IMAGE)
    with adaptor.ServiceModel(model_path="http://127.0.0.1:1").model as client:
        assert isinstance(client, Client)


def test_fiftyone_gets_fractions_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(Detection=SimpleNamespace, Detections=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    square, disc = result(64, 48).to_fiftyone().detections
    assert (square.label, square.confidence) == ("Square", 0.9375)
    assert square.bounding_box == [0.125, 0.25, 0.375, 0.5]
    assert disc.bounding_box == [0.25, 0.25, 0.75, 0.25]
    assert result(64, 48, count=0).to_fiftyone().detections == []
