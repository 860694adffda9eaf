"""The way of docs/captures.md: capture, export, correct, train from what serves, compare, load."""

import io
import json
from pathlib import Path

import httpx
import pytest
from PIL import Image as pillow

from app.main import create_app
from app.settings.settings import Settings
from models.shapes.scenes import Scene, draw_scene
from tests.support.rcnn import rcnn
from tests.support.served import eventually

pytestmark = [pytest.mark.network, pytest.mark.slow]

ADMIN = {"X-API-Key": "admin"}
SMALL = ("--epochs", 1, "--batch-size", 2, "--min-size", 96, "--threads", 1, "--device", "cpu")


def png(scene: Scene) -> bytes:
    file = io.BytesIO()
    pillow.fromarray(scene.pixels).save(file, "PNG")
    return file.getvalue()


def correct(labelled: Path, scenes: dict[bytes, Scene]) -> None:
    """Replace the detections by what was drawn, as a person does in an annotation tool."""
    file = labelled / "annotations" / "instances_default.json"
    document = json.loads(file.read_text())
    document["annotations"] = []
    for image in document["images"]:
        scene = scenes[(labelled / "images" / image["file_name"]).read_bytes()]
        for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            number, box = len(document["annotations"]) + 1, [x1, y1, x2 - x1, y2 - y1]
            document["annotations"].append(
                {"id": number, "image_id": image["id"], "category_id": label, "bbox": box, "iscrowd": 0}
            )
    file.write_text(json.dumps(document))


def average_precision(labelled: Path, model: str | Path) -> float:
    ran = rcnn("evaluate", labelled, "--model", model, "--json", inference_threads=1)
    assert ran.code == 0, ran.err
    return float(ran.json["numbers"]["AP"])


def capturing(kept: Path, models: Path) -> Settings:
    return Settings(
        model="shapes",
        precision="fp32",
        inference_threads=1,
        capture_dir=kept,
        capture_rules="share=1",
        admin_keys=["admin"],
        model_dir=models,
    )


async def test_from_a_capture_to_the_model_that_replaces_the_old_one(tmp_path: Path) -> None:
    scenes = {png(scene): scene for scene in (draw_scene(7, index) for index in range(5))}
    kept, labelled, better = tmp_path / "kept", tmp_path / "labelled", tmp_path / "models" / "better"
    better.parent.mkdir()
    app = create_app(capturing(kept, better.parent))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as client,
    ):
        await eventually(lambda: app.state.service.state == "ok", "the model is loaded", 60)
        for image in scenes:
            (await client.post("/detect", content=image)).raise_for_status()
        await eventually(lambda: len(app.state.captures.store) == len(scenes), "all are written")

        assert rcnn("captures", "export", "--to", "coco", "--out", labelled, "--data", kept).code == 0
        correct(labelled, scenes)
        training = ("--from", "shapes", "--val-fraction", 0.4, *SMALL)
        ran = rcnn("train", labelled, "--out", better, *training)
        assert ran.code == 0, ran.err
        assert average_precision(labelled, "shapes") > 0.5
        assert 0 <= average_precision(labelled, better / "model.toml") <= 1

        loaded = await client.post("/models/better/load", headers=ADMIN)
        assert loaded.json()["model"] == "better", loaded.text
        answer = (await client.post("/detect", content=next(iter(scenes)))).json()
        assert answer["model"] == "better"
