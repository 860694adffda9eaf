"""POST /detect?format=…: files for annotation tools, read back by readers of those formats."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from pycocotools.coco import COCO

from app.schemas.exports import Subject, to_csv
from models.datasets.coco import read_coco
from models.datasets.raw import RawDataset
from models.datasets.voc import read_voc
from models.datasets.yolo import read_yolo
from models.detections import Detections
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.protocols import PNG, detected
from tests.support.served import Serve, Served

AS_PNG = {"Content-Type": "image/png"}
WIDE = picture(640, 480)
MEDIA_TYPES = {
    "coco": "application/json",
    "yolo": "text/plain; charset=utf-8",
    "voc": "application/xml",
    "labelstudio": "application/json",
    "csv": "text/csv; charset=utf-8",
    "geojson": "application/geo+json",
}


async def export(served: Served, format: str, query: str = "score_threshold=0") -> httpx.Response:
    response = await served.client.post(
        f"/detect?format={format}&file_name=a.png&{query}",
        content=WIDE,
        headers={"Content-Type": "image/png"},
    )
    assert response.status_code == 200, response.text
    return response


async def expected(served: Served) -> list[tuple[str, list[float]]]:
    """Name and corners of all that POST /detect finds."""
    return [(name, box) for name, _, box in await detected(served, "score_threshold=0", WIDE)]


def objects(source: RawDataset) -> list[tuple[str, Any]]:
    """Name and corners of what one of our readers of datasets found in its one image, without a fault."""
    assert source.faults == []
    [image] = source.images
    scale = np.array((640, 480) * 2 if image.normalised else (1, 1) * 2)
    assert image.size in (None, (640, 480))
    return [(str(one.name), pytest.approx((one.box * scale).tolist(), abs=0.002)) for one in image.objects]


@pytest.mark.parametrize("format", MEDIA_TYPES)
async def test_each_has_its_media_type_length_and_timing(served: Served, format: str) -> None:
    response = await export(served, format)
    assert response.headers["content-type"] == MEDIA_TYPES[format]
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["server-timing"].startswith("decode;dur=")


@pytest.mark.parametrize("format", MEDIA_TYPES)
async def test_nothing_found_is_a_file_too(served: Served, format: str) -> None:
    text = (await export(served, format, "score_threshold=1")).text
    assert "Square" not in text or format == "coco"  # among its categories


# round trips


async def test_pycocotools_reads_coco_as_truth_and_as_results(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes((await export(served, "coco")).content)
    truth = COCO(str(path))
    results = truth.loadRes(json.loads(path.read_text())["annotations"])
    for reader in (truth, results):
        annotations = reader.loadAnns(reader.getAnnIds(imgIds=[1]))
        names = [reader.loadCats(one["category_id"])[0]["name"] for one in annotations]
        boxes = [np.array(one["bbox"]) for one in annotations]
        corners = [[*box[:2], *(box[:2] + box[2:])] for box in boxes]
        wanted = await expected(served)
        assert names == [name for name, _ in wanted]
        assert np.array(corners) == pytest.approx(np.array([box for _, box in wanted]), abs=0.002)
    assert [one["score"] for one in results.loadAnns(results.getAnnIds())] == [0.9375, 0.75, 0.25]
    assert truth.loadImgs(1)[0] == {"id": 1, "file_name": "a.png", "width": 640, "height": 480}


async def test_our_own_reader_takes_coco(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(WIDE)
    (tmp_path / "a.json").write_bytes((await export(served, "coco")).content)
    source = read_coco(tmp_path / "a.json", None)
    assert objects(source) == await expected(served)
    assert source.names == ("Square", "disc", "kite")


async def test_our_own_reader_takes_yolo(served: Served, tmp_path: Path) -> None:
    labels = (await served.client.get("/labels")).json()
    (tmp_path / "classes.txt").write_text("\n".join(labels.values()))
    for folder, name, content in (
        ("images", "a.png", WIDE),
        ("labels", "a.txt", (await export(served, "yolo")).content),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    assert objects(read_yolo(tmp_path, None, None)) == await expected(served)


async def test_our_own_reader_takes_voc(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(WIDE)
    (tmp_path / "a.xml").write_bytes((await export(served, "voc")).content)
    whole = [(name, [round(value) for value in box]) for name, box in await expected(served)]
    assert objects(read_voc(tmp_path, None)) == whole


# shapes without a reader at hand


async def test_label_studio_gets_a_task_with_predictions(served: Served) -> None:
    """Label Studio 1.20, guide/predictions: percent of the image, a labelling named label over image."""
    [task] = (await export(served, "labelstudio")).json()
    assert task["data"] == {"image": "a.png"}
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("fake", 0.9375)
    first = prediction["result"][0]
    assert first == {
        "id": "object-1",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "score": 0.9375,
        "value": {
            **{key: first["value"][key] for key in ("x", "y", "width", "height")},
            "rotation": 0,
            "rectanglelabels": ["Square"],
        },
    }
    back = [
        (
            one["value"]["rectanglelabels"][0],
            [
                one["value"]["x"] * 6.4,
                one["value"]["y"] * 4.8,
                (one["value"]["x"] + one["value"]["width"]) * 6.4,
                (one["value"]["y"] + one["value"]["height"]) * 4.8,
            ],
        )
        for one in prediction["result"]
    ]
    assert back == [(name, pytest.approx(box, abs=0.002)) for name, box in await expected(served)]


async def test_csv_is_a_table(served: Served) -> None:
    rows = list(csv.DictReader(io.StringIO((await export(served, "csv")).text)))
    read = [(row["name"], [float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")]) for row in rows]
    assert read == await expected(served)
    assert [(row["image"], row["label"], row["score"]) for row in rows] == [
        ("a.png", "1", "0.9375"),
        ("a.png", "2", "0.75"),
        ("a.png", "4", "0.25"),
    ]


async def test_geojson_is_closed_polygons(served: Served) -> None:
    collection = (await export(served, "geojson")).json()
    assert collection["type"] == "FeatureCollection"
    read = []
    for feature in collection["features"]:
        [ring] = feature["geometry"]["coordinates"]
        assert (len(ring), ring[0]) == (5, ring[-1])
        assert set(feature["properties"]) == {"name", "label", "score"}
        xs, ys = zip(*ring, strict=True)
        read.append((feature["properties"]["name"], [min(xs), min(ys), max(xs), max(ys)]))
    assert read == await expected(served)


async def test_a_spreadsheet_runs_no_text_of_a_csv_file(serve: Serve) -> None:
    texts = ("=cmd|' /C calc'!A1", "+1", "-1", "@SUM(A1)", "\uff1d1")
    card = CARD.model_copy(update={"labels": ("background", texts[0], "-disc", "N/A", "kite")})
    async with serve(FakeDetector(card=card)) as served:
        for text in texts:
            params = {"format": "csv", "file_name": text, "score_threshold": "0"}
            response = await served.client.post("/detect", params=params, content=PNG, headers=AS_PNG)
            rows = list(csv.DictReader(io.StringIO(response.text)))
            assert {row["image"] for row in rows} == {f"'{text}"}
            assert [row["name"] for row in rows] == [f"'{texts[0]}", "'-disc", "kite"]


def test_negative_numbers_of_a_csv_file_stay_numbers() -> None:
    one = Detections(np.float32([[-2.5, -1, 3, 4]]), np.array([1]), np.float32([0.5]))
    subject = Subject("\ta.png", (4, 4), "fake", {1: "\r=1"})
    [row] = csv.DictReader(io.StringIO(to_csv(one, subject), newline=""))
    assert (row["xmin"], row["ymin"], row["image"], row["name"]) == ("-2.5", "-1.0", "'\ta.png", "'\r=1")


# names


@pytest.mark.parametrize("name", ['<&">.png', "a,b\"c'.png", "Straße 7.png", "../../etc"])
@pytest.mark.parametrize("format", MEDIA_TYPES)
async def test_any_name_of_an_image_is_only_a_name(served: Served, format: str, name: str) -> None:
    response = await served.client.post(
        "/detect",
        params={"format": format, "file_name": name},
        content=PNG,
        headers={"Content-Type": "image/png"},
    )
    if format in ("coco", "labelstudio"):
        assert json.dumps(name) in json.dumps(response.json())
    elif format == "csv":
        assert next(csv.DictReader(io.StringIO(response.text)))["image"] == name
    elif format == "voc":
        document = ElementTree.fromstring(response.content)  # noqa: S314  # of our own making
        assert document.findtext("filename") == name


@pytest.mark.parametrize("name", ["", "a\nb", "a%00", "x" * 256])
async def test_a_name_that_cannot_be_one_is_refused(served: Served, name: str) -> None:
    response = await served.client.post(
        f"/detect?format=voc&file_name={name.replace(chr(10), '%0A')}",
        content=PNG,
        headers={"Content-Type": "image/png"},
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")


async def test_an_unknown_format_is_refused_with_the_known_ones(served: Served) -> None:
    response = await served.client.post(
        "/detect?format=xls", content=PNG, headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 422
    for known in ("json", "png", *MEDIA_TYPES):
        assert known in response.json()["detail"]
