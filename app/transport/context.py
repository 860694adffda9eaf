"""What a request finds in the app: the service, its pinned model, the slots for streams."""

from typing import cast

from starlette.requests import HTTPConnection

from app.serving.model import LoadedModel
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.transport.bodies.image_request import OtherProtocol


def service_of(request: HTTPConnection) -> DetectionService:
    """The service that `create_app` built."""
    return cast(DetectionService, request.app.state.service)


async def pin_model(
    request: HTTPConnection, name: str | None = None, version: str = "", deadline: float | None = None
) -> LoadedModel:
    """The model that answers the whole request, whatever serves later; the response's headers name it.

    `name`: of a model or an alias, None for the default. Raises as `DetectionService.model_for`.
    """
    request.state.model = None  # while it waits, a request holds no model
    request.state.model = model = await service_of(request).model_for(name, version, deadline)
    return model


def other_protocol_of(request: HTTPConnection) -> OtherProtocol:
    """The protocol that has POST /detect too, which `create_app` chose: routes know no protocols."""
    return cast(OtherProtocol, request.app.state.other_protocol)


def stream_slots_of(request: HTTPConnection) -> StreamSlots:
    """The slots for streams that `create_app` built."""
    return cast(StreamSlots, request.app.state.stream_slots)
