"""The detections of one image as arrays; drawn, or in another library's form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rcnn_client.errors import ClientError
from rcnn_client.images import Picture

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision
    from PIL import Image


class Detection(NamedTuple):
    """One object: its class, its score, and its box x1 y1 x2 y2 in pixels of the image as displayed."""

    name: str
    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detections:
    """N >= 0 detections of one image, highest score first; the arrays are read-only copies.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the image as displayed. labels: (N,) int64 class ids.
    scores: (N,) float32. Raises ValueError for unequal lengths or a number that is not finite.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...]
    width: int
    height: int
    model: str
    timings_ms: Mapping[str, float]
    request_id: str = ""
    model_version: str = ""

    def __post_init__(self) -> None:
        count = len(self.names)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("labels", np.int64, (count,)),
            ("scores", np.float32, (count,)),
        ):
            array = np.array(getattr(self, name), dtype)
            if array.size == 0 and count == 0:
                array = array.reshape(shape)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be {shape} finite numbers, with {count} names")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int) -> Detection:
        """The detection at `index`; 0 has the highest score."""
        left, top, right, bottom = self.boxes[index].tolist()
        label, score = int(self.labels[index]), float(self.scores[index])
        return Detection(self.names[index], label, score, (left, top, right, bottom))

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    def draw(self, image: Picture) -> "Image.Image":
        """A Pillow image: `image`, given as for `Client.detect`, with the boxes drawn on.

        An image below 320 pixels is enlarged. Raises ValueError for an image of another size.
        """
        from rcnn_client.drawing import draw

        return draw(image, (self.width, self.height), list(self))

    def to_supervision(self) -> "supervision.Detections":
        """As `supervision.Detections`, with the names in `data["class_name"]`; needs supervision."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def to_fiftyone(self) -> "fiftyone.Detections":
        """As `fiftyone.Detections`, with boxes as fractions of the image; needs fiftyone."""
        import fiftyone

        size = np.array([self.width, self.height] * 2, np.float64)
        found = []
        for name, _, score, (x1, y1, x2, y2) in self:
            box = (np.array([x1, y1, x2 - x1, y2 - y1]) / size).tolist()
            found.append(fiftyone.Detection(label=name, bounding_box=box, confidence=score))
        return fiftyone.Detections(detections=found)

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """As COCO results of that image: bbox is x, y, width, height in pixels, category_id the label id."""
        return [
            {
                "image_id": image_id,
                "category_id": label,
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 6),
            }
            for _, label, score, (x1, y1, x2, y2) in self
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a detection: x1, y1, x2, y2, score, label, name; needs pandas."""
        import pandas

        boxes = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T.copy(), strict=True))
        others = {"score": self.scores.copy(), "label": self.labels.copy(), "name": list(self.names)}
        return pandas.DataFrame({**boxes, **others})

    def label_names(self) -> list[str]:
        """Names by label id (index = id) of the detected classes; "" for the others."""
        names = {int(label): name for label, name in zip(self.labels, self.names, strict=True)}
        return [names.get(label, "") for label in range(max(names, default=0) + 1)]

    def to_dict(self) -> dict[str, Any]:
        """The response of POST /detect, as plain values."""
        return {
            "boxes": self.boxes.astype(np.float64).round(3).tolist(),
            "labels": self.labels.tolist(),
            "scores": self.scores.astype(np.float64).round(6).tolist(),
            "names": list(self.names),
            "image": {"width": self.width, "height": self.height},
            "model": self.model,
            **({"model_version": self.model_version} if self.model_version else {}),
            "box_format": "xyxy",
            "timings_ms": dict(self.timings_ms),
            **({"request_id": self.request_id} if self.request_id else {}),
        }


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a stream: its number, its time in seconds if it has one, and its detections or error."""

    index: int
    seconds: float | None
    outcome: Detections | ClientError
