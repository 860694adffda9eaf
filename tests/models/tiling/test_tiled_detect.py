"""A detector's answer for an image in tiles is the service's, with a real network."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from app.main import create_app
from app.settings.settings import Settings
from models.detector import Job
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiled_detect import detect_tiled
from models.tiling.tiles import Tiling
from tests.conftest import eventually
from tests.support.networks import random_detector
from tests.support.tiled_scenes import PNG

pytestmark = pytest.mark.network


async def test_the_service_answers_as_the_detector_in_this_process() -> None:
    """With a real network: N jobs through the queue are the same as a loop over the tiles."""
    detector = random_detector()
    noise = np.random.default_rng(5).integers(0, 256, (500, 700, 3), np.uint8)
    file = io.BytesIO()
    pillow.fromarray(noise).save(file, "PNG")
    image = Image(noise, "PNG")
    options = Options(0.2, 0.5, 50)
    here = detect_tiled(detector, image, options, Tiling(), batch=3)
    query = "score_threshold=0.2&nms_threshold=0.5&max_detections=50"
    app = create_app(Settings(), detector)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)
    async with app.router.lifespan_context(app), client:
        await eventually(lambda: app.state.service.state == "ok", "the service is ready", 60)
        there, plain = [
            (await client.post(f"/detect?{query}{more}", content=file.getvalue(), headers=PNG)).json()
            for more in ("&tile=auto", "")
        ]
    assert len(here) > 10
    assert np.array(there["boxes"]) == pytest.approx(here.boxes, abs=0.05)
    assert there["labels"] == here.labels.tolist()
    assert there["boxes"] != plain["boxes"]
    [alone] = detector.detect([Job(detector.prepare(image), options)])
    untiled = detect_tiled(detector, image, options, Tiling(1000))
    assert (untiled.boxes == alone.boxes).all()
    assert (untiled.scores == alone.scores).all()
