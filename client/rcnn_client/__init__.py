"""Python client of the service, sync and async: an image in, typed detections out.

    with Client("http://127.0.0.1:8000") as client:
        for detection in client.detect("photo.jpg", score_threshold=0.7, classes=["person"]):
            print(detection.name, detection.score, detection.box)
        for detections in client.detect_many(Path("photos").glob("*.jpg"), in_flight=8):
            ...
        for frame in client.stream("clip.gif", every=5):
            ...

`exchange` builds requests, decides when they are sent again and reads responses; `clients` sends them, on
threads or asyncio; `concurrency` keeps several in flight; `images` reads what is given as an image. `options`
is generated from the service.
"""

from rcnn_client.clients import AsyncClient, Client
from rcnn_client.concurrency import in_order
from rcnn_client.errors import ClientError, NotAnAnswer, Refused, Unreachable
from rcnn_client.images import Picture
from rcnn_client.options import Options
from rcnn_client.result import Detection, Detections, Frame

Result = Detections
"""The name of `Detections` in the release before."""

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Detection",
    "Detections",
    "Frame",
    "NotAnAnswer",
    "Options",
    "Picture",
    "Refused",
    "Result",
    "Unreachable",
    "in_order",
]
