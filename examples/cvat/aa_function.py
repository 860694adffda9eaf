"""An auto-annotation function of cvat-sdk: cvat-cli task auto-annotate TASK --function-file aa_function.py"""

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.models import LabeledShapeRequest
from PIL import Image

from rcnn_client import Client

client = Client()  # RCNN_URL and RCNN_API_KEY
spec = cvataa.DetectionFunctionSpec(
    labels=[cvataa.label_spec(name, label, type="rectangle") for label, name in client.labels().items()]
)


def detect(context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[LabeledShapeRequest]:
    """The objects of one frame."""
    options = {} if context.conf_threshold is None else {"score_threshold": context.conf_threshold}
    found = client.detect(image, **options)
    return [cvataa.rectangle(one.label, [float(side) for side in one.box]) for one in found]
