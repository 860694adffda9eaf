"""One image for several models: it is decoded once, and detected by each of them as a request of its own."""

import asyncio
from collections.abc import Sequence
from functools import partial

from app.errors import from_image_error
from app.serving.request import Outcome, Plan
from app.serving.service import DetectionService
from models.images import decoder
from models.images.control import DecodeControl


async def detect_with_models(
    service: DetectionService, image: bytes, plans: Sequence[Plan | BaseException]
) -> list[Outcome | BaseException]:
    """The outcome of each plan, in order, or why it failed; raises ServiceError for an image that is none."""
    good = [plan for plan in plans if isinstance(plan, Plan)]
    if not good:
        return [plan for plan in plans if isinstance(plan, BaseException)]
    read = partial(_read, image, decoder.Limits(service.settings.max_pixels))
    try:
        decoded = await service.pipeline.decode_step(good[0], read)
    except decoder.ImageError as error:
        raise from_image_error(error) from error

    async def detect(plan: Plan | BaseException) -> Outcome:
        if isinstance(plan, BaseException):
            raise plan
        return await service.pipeline.detect(decoded.pixels, plan)

    return await asyncio.gather(*map(detect, plans), return_exceptions=True)


def _read(image: bytes, limits: decoder.Limits, control: DecodeControl) -> decoder.Image:
    """All pixels: models may need different sizes."""
    return decoder.read(image, limits, control=control)
