"""A Nuclio function for CVAT: an image in, rectangles out."""

import base64
import json

from rcnn_client import Client


def init_context(context):  # type: ignore[no-untyped-def]  # Nuclio's object
    """Called once."""
    context.user_data.client = Client()  # RCNN_URL and RCNN_API_KEY


def handler(context, event):  # type: ignore[no-untyped-def]  # Nuclio's objects
    """Called for each frame."""
    data = event.body if isinstance(event.body, dict) else json.loads(event.body)
    threshold = float(data.get("threshold") or 0.5)
    found = context.user_data.client.detect(base64.b64decode(data["image"]), score_threshold=threshold)
    shapes = [
        {
            "confidence": str(one.score),
            "label": one.name,
            "points": [float(side) for side in one.box],
            "type": "rectangle",
        }
        for one in found
    ]
    body = json.dumps(shapes)
    return context.Response(body=body, headers={}, content_type="application/json", status_code=200)
