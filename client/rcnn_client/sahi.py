"""SAHI with the service as its model; needs sahi 0.12 or later, the first with batches.

    from rcnn_client import Client
    from rcnn_client.sahi import ServiceModel

    model = ServiceModel(model=Client("http://127.0.0.1:8000"), confidence_threshold=0.5)
    result = get_sliced_prediction("large.jpg", model, slice_height=640, slice_width=640, batch_size=8)

The slices of a batch are sent at a time. The service cuts images itself too: its option `tile`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction
from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list

from rcnn_client.clients import Client
from rcnn_client.errors import ClientError
from rcnn_client.result import Detections

Numbers = Sequence[Any] | None


class ServiceModel(DetectionModel):  # type: ignore[misc]  # sahi is not installed where types are checked
    """`model` is a Client; without one, `model_path` is the address of the service."""

    def load_model(self) -> None:
        """Connect to `model_path`, or to the default address."""
        self.set_model(Client(self.model_path))

    def set_model(self, model: Client, **_: object) -> None:
        """Use this client."""
        self.model = model

    def perform_inference(self, image: npt.NDArray[np.uint8]) -> None:
        """Detect in one image, RGB."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[npt.NDArray[np.uint8]]) -> None:
        """Detect in several images; raises the error of the first that fails."""
        outcomes = self.model.detect_many(
            images, in_flight=len(images), score_threshold=self.confidence_threshold
        )
        self._original_predictions = [_checked(outcome) for outcome in outcomes]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Numbers = None, full_shape_list: Numbers = None
    ) -> None:
        found: list[Detections] = self._original_predictions
        shifts = fix_shift_amount_list(shift_amount_list)
        shapes = fix_full_shape_list(full_shape_list) or [None] * len(found)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=list(one.box),
                    category_id=one.label,
                    category_name=one.name,
                    score=one.score,
                    shift_amount=shift,
                    full_shape=shape,
                )
                for one in detections
            ]
            for detections, shift, shape in zip(found, shifts, shapes, strict=True)
        ]


def _checked(outcome: Detections | ClientError | OSError) -> Detections:
    if isinstance(outcome, Detections):
        return outcome
    raise outcome
