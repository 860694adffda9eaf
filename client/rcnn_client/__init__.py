"""Python client of the service, sync and async: bytes or a file in, typed detections out.

    with Client("http://127.0.0.1:8000") as client:
        result = client.detect("photo.jpg", score_threshold=0.7, classes=["person"])
        print(result.names, result.boxes)
        for result in client.detect_many(Path("photos").glob("*.jpg"), in_flight=8):
            ...
        for frame in client.stream("clip.gif", every=5):
            ...

`exchange` builds requests, decides when they are sent again and reads responses; `clients` sends them, on
threads or asyncio; `concurrency` keeps several in flight. `options` is generated from the service.
"""

from rcnn_client.clients import AsyncClient, Client
from rcnn_client.concurrency import in_order
from rcnn_client.errors import ClientError, NotAnAnswer, Refused, Unreachable
from rcnn_client.exchange import Picture
from rcnn_client.options import Options
from rcnn_client.result import Frame, Result

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Frame",
    "NotAnAnswer",
    "Options",
    "Picture",
    "Refused",
    "Result",
    "Unreachable",
    "in_order",
]
