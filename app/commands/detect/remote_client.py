"""A service that detects for `rcnn detect --url`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.commands import USAGE, CommandFailed
from app.commands.detect.result import ImageRefused, ImageResult
from app.schemas.options import DetectOptions
from models.detections import Detections

if TYPE_CHECKING:
    from rcnn_client import Client, Refused

# Statuses of one image alone. With any other the service would refuse the next image too.
ONE_IMAGE_STATUSES = (400, 413, 415, 429, 500, 503, 504)


class RemoteClient:
    """An ImageDetector through rcnn_client."""

    def __init__(self, client: "Client", model: str | None = None) -> None:
        """`model`: the name of a model of the service, None for its default one."""
        self._client = client
        self._model = model

    def labels(self) -> Mapping[int, str]:
        """Id to name of the classes; raises CommandFailed."""
        from rcnn_client import ClientError

        try:
            return self._client.labels(self._model)
        except ClientError as error:
            raise CommandFailed(error) from error

    def detect(self, image: bytes, options: DetectOptions) -> ImageResult:
        """Detections of one image file; raises ImageRefused, CommandFailed."""
        from rcnn_client import ClientError, Refused

        try:
            result = self._client.detect(image, model=self._model, **options.model_dump(exclude_unset=True))
        except Refused as error:
            raise _refusal(error) from error
        except ClientError as error:
            raise CommandFailed(error) from error
        return ImageResult(
            detections=Detections(result.boxes, result.labels, result.scores),
            names=result.names,
            width=result.width,
            height=result.height,
            model=result.model,
            model_version=result.model_version,
            timings_ms=result.timings_ms,
            request_id=result.request_id,
        )


def _refusal(error: "Refused") -> Exception:
    too_many_tiles = error.status == 422 and error.detail.startswith("tile=")  # of this image alone
    if error.status in ONE_IMAGE_STATUSES or too_many_tiles:
        return ImageRefused(error, error.code)
    return CommandFailed(error, USAGE if error.status == 422 else 1)
