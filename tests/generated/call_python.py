"""Calls the service through the client that openapi-python-client generates: URL, image file."""

import sys
from pathlib import Path

from rcnn_api import Client  # type: ignore[import-not-found]  # generated
from rcnn_api.api.catalogue import list_models  # type: ignore[import-not-found]  # generated
from rcnn_api.api.detection import detect, detect_batch, detect_file  # type: ignore[import-not-found]  # generated
from rcnn_api.models import (  # type: ignore[import-not-found]  # generated
    BatchForm,
    DetectForm,
    DetectFormat,
    DetectResponse,
    ObjectsResponse,
)
from rcnn_api.types import File  # type: ignore[import-not-found]  # generated

url, photo = sys.argv[1], Path(sys.argv[2])


def file() -> File:
    """The image file as the client wants it."""
    return File(payload=photo.open("rb"), file_name=photo.name)


client = Client(base_url=url)
one = detect.sync(client=client, body=DetectForm(image=file()), score_threshold=0.6)
assert isinstance(one, DetectResponse), one
assert one.names, one
raw = detect_file.sync(client=client, body=file(), format_=DetectFormat.OBJECTS)
assert isinstance(raw, ObjectsResponse), raw
assert [found.name for found in raw.objects] == one.names
batch = detect_batch.sync(client=client, body=BatchForm(image=[file(), file()]))
assert [result.names for result in batch.results] == [one.names] * 2
assert "shapes" in [model.name for model in list_models.sync(client=client).models]
print("openapi-python-client:", ", ".join(one.names))
