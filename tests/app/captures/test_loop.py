"""The way of docs/captures.md: capture, export, correct, train from what serves, compare, load the winner."""

import io
import json
from pathlib import Path

import httpx
import pytest
from PIL import Image as pillow

from app.main import create_app
from app.settings.settings import Settings
from models.shapes.scenes import Scene
from tests.support.data.smears import draw_smear
from tests.support.rcnn import rcnn
from tests.support.served import eventually

pytestmark = [pytest.mark.network, pytest.mark.slow]

ADMIN = {"X-API-Key": "admin"}
OLD, SMEARS = "blood-cells", 10
SPLIT = ("--val-fraction", 0.4)
TRAINING = (
    *("--epochs", 2, "--batch-size", 2, "--learning-rate", 3e-4, "--min-size", 432, "--zoom", 1),
    *("--threads", 1, "--device", "cpu", "--seed", 1),
)
ONE_THREAD = {"inference_threads": 1}


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
    """On the part of the images that the training leaves out."""
    ran = rcnn("evaluate", labelled, "--model", model, "--split", "val", *SPLIT, "--json", **ONE_THREAD)
    assert ran.code == 0, ran.err
    return float(ran.json["numbers"]["AP"])


def capturing(kept: Path, models: Path) -> Settings:
    return Settings(
        model=OLD,
        precision="fp32",
        inference_threads=1,
        capture_dir=kept,
        capture_rules="share=1",
        admin_keys=["admin"],
        model_dir=models,
    )


async def test_from_a_capture_to_the_better_model_that_replaces_the_old_one(tmp_path: Path) -> None:
    scenes = {png(smear): smear for smear in map(draw_smear, range(SMEARS))}
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
        ran = rcnn("train", labelled, "--out", better, "--from", OLD, *SPLIT, *TRAINING)
        assert ran.code == 0, ran.err
        before, after = average_precision(labelled, OLD), average_precision(labelled, better / "model.toml")
        assert before < after, "the training made it worse"

        loaded = await client.post("/models/better/load", headers=ADMIN)
        assert (loaded.json()["model"], loaded.json()["previous"]["model"]) == ("better", OLD), loaded.text
        answer = (await client.post("/detect", content=next(iter(scenes)))).json()
        assert answer["model"] == "better"
