"""The bundled model through the real app: right answers, the same alone or together, as good as trained."""

import asyncio
import io
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image as PillowImage
from torchvision.ops import box_iou

from app.main import create_app
from app.settings.settings import Settings
from models.detector import DetectorSpec, load_detector
from models.shapes.evaluate import evaluate_scenes
from models.shapes.scenes import draw_scene
from tests.support.served import ROOT, eventually

pytestmark = pytest.mark.network

SAMPLES = sorted((ROOT / "samples").glob("*.json"))


@pytest.fixture(params=["cpu"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FastAPI]:
    """The app with the bundled model, loaded as at any start."""
    app = create_app(Settings(model="shapes", device=request.param, cache_dir=tmp_path, max_queue=64))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "ok", "the model is loaded", 120)
        # Whatever the warm-up found: on a busy machine that may be 1.
        app.state.service.ready_model().flow.set_max_batch(8)
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as client:
        yield client


def iou(a: list[float], b: list[float]) -> float:
    """Intersection over union of two xyxy boxes."""
    return float(box_iou(torch.tensor([a]), torch.tensor([b])))


async def test_every_object_of_the_samples_is_found(client: httpx.AsyncClient) -> None:
    assert len(SAMPLES) >= 2
    for path in SAMPLES:
        truth = json.loads(path.read_text())
        picture = path.with_suffix(".jpg").read_bytes()
        answer = (
            await client.post("/detect", files={"image": picture}, params={"score_threshold": 0.8})
        ).json()
        assert answer["model"] == "shapes"
        assert answer["image"] == truth["image"]
        found = list(zip(answer["names"], answer["boxes"], strict=True))
        for name, box in zip(truth["names"], truth["boxes"], strict=True):
            assert any(name == other and iou(box, its) >= 0.8 for other, its in found), (path.name, name, box)
        assert len(found) == len(truth["names"]), f"{path.name}: something was invented"


def mixed_pictures() -> list[bytes]:
    """12 different images in four sizes, as PNG files."""
    files = []
    for index, (height, width) in enumerate([(240, 320), (400, 300), (360, 360), (270, 480)] * 3):
        scene = PillowImage.fromarray(draw_scene(21, index).pixels).resize((width, height))
        file = io.BytesIO()
        scene.save(file, "PNG")
        files.append(file.getvalue())
    return files


async def counter(client: httpx.AsyncClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    assert found, f"/metrics has no {name}"
    return float(found[1])


class Held:
    """The app's devices, which begin no batch before `go`."""

    def __init__(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.jobs: list[Any] = []
        for detector in app.state.service.ready_model().detectors:
            monkeypatch.setattr(detector, "launch", self._later(detector.launch))

    def _later(self, detect: Callable[..., Any]) -> Callable[..., Any]:
        def held(jobs: Sequence[Any], observe: Any) -> Any:
            self.jobs.extend(jobs)
            assert self.go.wait(60)
            return detect(jobs, observe)

        return held


@pytest.mark.parametrize("app", ["cpu", "cpu,cpu"], indirect=True)
async def test_answers_depend_neither_on_batch_mates_nor_on_the_device(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(picture: bytes) -> dict[str, Any]:
        response = await client.post("/detect", files={"image": picture}, params={"score_threshold": 0.2})
        assert response.status_code == 200
        return dict(response.json())

    pictures = mixed_pictures()
    alone = [await ask(picture) for picture in pictures]
    before = [await counter(client, f'rcnn_batch_size_{part}{{model="shapes"}}') for part in ("sum", "count")]
    held, service = Held(app, monkeypatch), app.state.service
    asked = asyncio.gather(*map(ask, pictures))
    await eventually(lambda: len(held.jobs) + service.queue_depth == len(pictures), "all are there", 60)
    held.go.set()
    together = await asked
    after = [await counter(client, f'rcnn_batch_size_{part}{{model="shapes"}}') for part in ("sum", "count")]
    images, batches = (late - early for late, early in zip(after, before, strict=True))
    assert images == len(pictures)
    assert images / batches > 1.5, "the second run was hardly batched, so it shows nothing"
    assert sum(len(answer["labels"]) for answer in alone) > 12
    for one, other in zip(alone, together, strict=True):
        assert one["labels"] == other["labels"]
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=0.01)
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)


def test_accuracy_is_what_the_card_says(tmp_path: Path) -> None:
    """40 scenes say AP50 to about 0.01: a broken stage costs far more than that."""
    detector = load_detector(DetectorSpec(model="shapes", cache_dir=tmp_path, device="cpu"))
    card = detector.card.training
    assert card is not None
    assert card["ap50"] >= 0.95
    assert card["ap"] >= 0.70
    numbers = evaluate_scenes(detector, 40)
    assert numbers["AP50"] == pytest.approx(card["ap50"], abs=0.02)
    assert numbers["AP"] == pytest.approx(card["ap"], abs=0.04)
