"""The JSON documents of annotation tools that app.schemas.exports writes, for the API's documentation."""

from typing import Literal

from pydantic import Field

from app.schemas.options import Wire
from app.schemas.responses import BoxNumbers


class CocoInfo(Wire):
    """Where the dataset comes from."""

    description: str


class CocoImage(Wire):
    """The image of a COCO dataset."""

    id: int
    file_name: str
    width: int
    height: int


class CocoCategory(Wire):
    """A class of a COCO dataset."""

    id: int
    name: str


class CocoAnnotation(Wire):
    """An object of a COCO dataset."""

    id: int
    image_id: int
    category_id: int
    bbox: BoxNumbers = Field(description="x, y of the upper left corner, width, height, in pixels")
    area: float
    iscrowd: int
    score: float


class CocoDataset(Wire):
    """`format=coco`."""

    info: CocoInfo
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


class LabelStudioData(Wire):
    """What a task shows."""

    image: str


class LabelStudioRectangle(Wire):
    """A box in percent of the image."""

    x: float
    y: float
    width: float
    height: float
    rotation: float
    rectanglelabels: list[str]


class LabelStudioResult(Wire):
    """An object of a prediction."""

    id: str
    type: Literal["rectanglelabels"]
    from_name: str
    to_name: str
    original_width: int
    original_height: int
    image_rotation: int
    score: float
    value: LabelStudioRectangle


class LabelStudioPrediction(Wire):
    """The objects of a task."""

    model_version: str
    score: float
    result: list[LabelStudioResult]


class LabelStudioTask(Wire):
    """`format=labelstudio` is a list of one task."""

    data: LabelStudioData
    predictions: list[LabelStudioPrediction]


class GeoJsonPolygon(Wire):
    """The corners of a box, the first one again at the end."""

    type: Literal["Polygon"]
    coordinates: list[list[list[float]]]


class GeoJsonProperties(Wire):
    """What an object is."""

    name: str
    label: int
    score: float


class GeoJsonFeature(Wire):
    """An object."""

    type: Literal["Feature"]
    geometry: GeoJsonPolygon
    properties: GeoJsonProperties


class FeatureCollection(Wire):
    """`format=geojson`, in pixels with y downwards."""

    type: Literal["FeatureCollection"]
    features: list[GeoJsonFeature]
