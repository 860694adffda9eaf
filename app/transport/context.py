"""What a request finds in the app: the service, its pinned model, the slots for streams."""

from typing import cast

from starlette.requests import HTTPConnection

from app.serving.model import LoadedModel
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots


def service_of(request: HTTPConnection) -> DetectionService:
    """The service that `create_app` built."""
    return cast(DetectionService, request.app.state.service)


def pin_model(request: HTTPConnection) -> LoadedModel:
    """The model that answers the whole request, whatever serves later; the response's headers name it."""
    request.state.model = model = service_of(request).ready_model()
    return model


def pinned_model(request: HTTPConnection) -> LoadedModel:
    """The model that `pin_model` pinned for this request."""
    return cast(LoadedModel, request.state.model)


def stream_slots_of(request: HTTPConnection) -> StreamSlots:
    """The slots for streams that `create_app` built."""
    return cast(StreamSlots, request.app.state.stream_slots)
