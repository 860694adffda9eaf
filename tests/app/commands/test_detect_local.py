"""`rcnn detect` with a model in this process, beside the service with the same model."""

import re
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import picture
from tests.support.rcnn import rcnn
from tests.support.served import eventually

pytestmark = pytest.mark.network


def flags(options: dict[str, object]) -> list[object]:
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


async def test_a_local_model_answers_as_the_service_does(card: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    small.write_bytes(picture())
    large.write_bytes(picture(640, 400))
    options = {"score_threshold": 0.4, "nms_threshold": 0.3, "max_detections": 7, "size": 160}
    tiles = {"tile": "256", "tile_overlap": 0.3, "size": 160, "max_detections": 50}
    local = ("--model", card, "--json")
    [here] = rcnn("detect", small, *local, "--classes", "one,3", "--classes", "TWO", *flags(options)).lines
    [tiled] = rcnn("detect", large, *local, *flags(tiles), "--flip").lines
    app = create_app(Settings(model=str(card)))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "ok", "the service is ready")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            query = httpx.QueryParams(options | {"classes": "one,3,two"})
            there = (await client.post("/detect", params=query, files={"image": small.read_bytes()})).json()
            tiled_there = (
                await client.post(
                    "/detect", params=tiles | {"flip": True}, files={"image": large.read_bytes()}
                )
            ).json()
    assert here.pop("file") == str(small)
    assert len(here["boxes"]) == 7
    assert set(here["names"]) <= {"one", "two", "three"}
    assert set(here.pop("timings_ms")) == {"decode", "inference", "postprocess", "total"}
    np.testing.assert_allclose(here.pop("boxes"), there.pop("boxes"), atol=0.01)
    np.testing.assert_allclose(here.pop("scores"), there.pop("scores"), atol=1e-4)
    assert here == {name: there[name] for name in here}
    assert set(there) - set(here) == {"timings_ms", "request_id"}
    np.testing.assert_allclose(tiled["boxes"], tiled_there["boxes"], atol=0.01)
    assert (tiled["labels"], tiled["image"]) == (tiled_there["labels"], {"width": 640, "height": 400})
    assert set(tiled["timings_ms"]) == {"decode", "inference", "postprocess", "total"}


def test_tiles_see_other_objects_than_the_whole_image(card: Path, tmp_path: Path) -> None:
    image = tmp_path / "large.png"
    image.write_bytes(picture(640, 400))
    local = ("--model", card, "--json", "--size", 160, "--max-detections", 50)
    [whole] = rcnn("detect", image, *local).lines
    for tile in (256, "auto"):
        assert rcnn("detect", image, *local, "--tile", tile).lines[0]["boxes"] != whole["boxes"]


def test_faults_of_an_image_lose_no_other(card: Path, tmp_path: Path) -> None:
    """One is not an image, one needs too many tiles, one has too many pixels."""
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.png").write_bytes(picture(700, 500))
    (tmp_path / "d.png").write_bytes(picture(900, 500))
    (tmp_path / "e.png").write_bytes(picture())
    ran = rcnn("detect", tmp_path, "--model", card, "--json", "--tile", 64, max_pixels=400_000)
    faults = [line["error"]["detail"] if "error" in line else None for line in ran.lines]
    assert (ran.code, faults[0], faults[4]) == (1, None, None)
    assert faults[1]
    assert "tiles of 64 px would cover 700 x 500 px; at most 64 may" in faults[2]
    assert "400000" in faults[3]
    assert [line.startswith(f"rcnn: {tmp_path}") for line in ran.err.splitlines()] == [True] * 3


def test_defaults_and_names_are_those_of_the_card(card: Path, image: Path, tmp_path: Path) -> None:
    [answer] = rcnn("detect", image, "--model", card, "--json").lines
    assert min(answer["scores"]) >= 0.3
    assert (answer["model"], answer["image"]) == ("random", {"width": 64, "height": 48})
    out = tmp_path / "labels"
    ran = rcnn("detect", image, "--model", card, "--format", "yolo", "--out", out)
    assert (ran.code, ran.out) == (0, "")
    assert (out / "classes.txt").read_text().split() == ["one", "two", "three", "four"]
    lines = (out / "image.txt").read_text().splitlines()
    assert [int(line.split()[0]) + 1 for line in lines] == answer["labels"]


def test_an_unknown_class_is_wrong_usage(card: Path, image: Path) -> None:
    ran = rcnn("detect", image, "--model", card, "--classes", "one,horse,0")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "rcnn: --classes: the model has no class 'horse'; it has one, two, three, four\n"


def test_a_model_that_cannot_be_loaded_is_1(image: Path) -> None:
    ran = rcnn("detect", image, "--model", "nonesuch")
    assert (ran.code, ran.out) == (1, "")
    assert re.match(r"rcnn: unknown model 'nonesuch'; choose one of: .*coco-r50-fpn", ran.err)


def test_only_url_needs_the_client(card: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rcnn_client", None)
    assert rcnn("detect", image, "--model", card).code == 0
    ran = rcnn("detect", image, "--url", "http://127.0.0.1:9")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "rcnn: --url needs rcnn_client, which is missing; install rcnn-client from a clone of rcnn-serve: "
        "pip install ./client\n"
    )
