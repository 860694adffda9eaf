"""The documentation and the static files: /, /samples, /docs and /openapi.json."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import version
from app.errors import error_classes
from app.routes import page
from app.schemas import responses as answers
from app.schemas import status
from app.schemas.exports import EXPORTS, Subject
from app.schemas.options import DetectQuery
from app.transport import openapi_examples
from models.detections import Detections
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.served import ROOT, Serve, Served


@pytest.fixture
async def document(served: Served) -> Any:
    return (await served.client.get("/openapi.json")).json()


# page and documentation


async def test_the_page_and_its_files_are_served_under_a_strict_policy(served: Served) -> None:
    index = await served.client.get("/", headers={"Accept": "text/html"})
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    names = re.findall(r'(?:src|href)="web/([^"]+)"', index.text)
    assert names
    for name in names:
        response = await served.client.get(f"/web/{name}")
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        again = await served.client.get(f"/web/{name}", headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_samples_are_files_of_the_package() -> None:
    """So that a wheel has them: pyproject.toml lists the folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["app"]
    packaged = {path for pattern in patterns for path in page.APP.glob(pattern)}
    assert {path for folder in (page.SAMPLES, page.WEB) for path in folder.iterdir()} <= packaged
    assert (ROOT / "samples" / "shapes-1.jpg").samefile(page.SAMPLES / "shapes-1.jpg")  # as the docs name it


async def test_samples_follow_the_model(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, own = tmp_path / "scenes", tmp_path / "fake.samples"
    for folder in (scenes, own):
        folder.mkdir()
    (scenes / "b.png").write_bytes(picture())
    (scenes / "a.jpg").write_bytes(picture(format="JPEG"))
    (scenes / "a.json").write_text("{}")
    (scenes / "README.md").write_text("notes")
    monkeypatch.setattr(page, "SAMPLES", scenes)
    async with serve(FakeDetector(card=CARD.model_copy(update={"name": "shapes"}))) as served:
        assert (await served.client.get("/samples")).json() == {
            "samples": [
                {"name": "a.jpg", "url": "/samples/a.jpg", "truth": "/samples/a.json"},
                {"name": "b.png", "url": "/samples/b.png", "truth": None},
            ]
        }
        image = await served.client.get("/samples/b.png")
        assert (image.headers["content-type"], image.content) == ("image/png", picture())
        assert (await served.client.get("/samples/a.json")).status_code == 200
        assert (await served.client.get("/samples/c.png")).status_code == 404
        assert (await served.client.get("/samples?model=other")).json()["code"] == "unknown_model"
        monkeypatch.setattr(page, "SAMPLES", tmp_path / "nowhere")
        assert (await served.client.get("/samples")).json() == {"samples": []}
    card = CARD.model_copy(update={"path": tmp_path / "fake.toml"})
    (own / "my cell.png").write_bytes(picture())
    async with serve(FakeDetector(card=card)) as served:
        [sample] = (await served.client.get("/samples?model=fake")).json()["samples"]
        assert sample == {"name": "my cell.png", "url": "/samples/my%20cell.png?model=fake", "truth": None}
        assert (await served.client.get(sample["url"])).content == picture()
    async with serve(FakeDetector()) as served:  # neither `shapes` nor a folder beside the card
        assert (await served.client.get("/samples")).json() == {"samples": []}
        assert (await served.client.get("/samples/b.png?model=fake")).status_code == 404


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("path", "media_type"), [("/models", "application/json"), ("/metrics", "text/plain")]
)
async def test_browsers_get_pages_and_all_others_data(serve: Serve, path: str, media_type: str) -> None:
    async with serve(api_keys="secret") as served:
        shown = await served.client.get(path, headers={"Accept": BROWSER})
        assert shown.headers["content-type"].startswith("text/html")
        assert (shown.headers["vary"], "default-src 'none'" in shown.headers["content-security-policy"]) == (
            "Accept",
            True,
        )
        for accept in ("*/*", "application/json", PROMETHEUS, "text/html;q=0.1,*/*"):
            data = await served.client.get(path, headers={"Accept": accept, "X-API-Key": "secret"})
            assert (data.status_code, data.headers["vary"].split(",")[0]) == (200, "Accept")
            of_prometheus = (path, accept) == ("/metrics", PROMETHEUS)
            expected = PROMETHEUS.partition(";")[0] if of_prometheus else media_type
            assert data.headers["content-type"].startswith(expected)
        assert (await served.client.post(path, headers={"Accept": BROWSER})).status_code == 405


async def test_the_documentation_comes_from_this_server_alone(served: Served) -> None:
    docs = await served.client.get("/docs")
    assert docs.status_code == 200
    assert "http://" not in docs.text.replace("http://www.w3.org", "")
    assert "https://" not in docs.text
    assert "default-src 'none'" in docs.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(docs/[^"]+)"', docs.text):
        asset = await served.client.get(f"/{name}")
        assert (asset.status_code, len(asset.content) > 1000) == (200, True)


async def test_openapi_documents_every_option_body_and_error(document: Any) -> None:
    detect = document["paths"]["/detect"]["post"]
    assert [one["name"] for one in detect["parameters"]] == ["X-Priority", *DetectQuery.model_fields]
    assert all(one["description"] for one in detect["parameters"])
    assert list(detect["requestBody"]["content"]) == ["multipart/form-data"]
    assert list(document["paths"]["/detect"]["put"]["requestBody"]["content"]) == ["application/octet-stream"]
    assert set(detect["responses"]["200"]["content"]) == {
        *("application/json", "image/png", "image/jpeg"),
        *("application/geo+json", "application/xml", "text/csv", "text/plain"),
    }
    documented = {
        code
        for response in detect["responses"].values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    elsewhere = {"not_found", "method_not_allowed", "forbidden"}
    elsewhere.add("foreign_origin")  # of web sockets
    elsewhere |= {"malformed_request", "head_too_large", "host_not_allowed"}  # before any route
    assert documented == {kind.code for kind in error_classes()} - elsewhere
    assert document["info"]["version"] == version()


async def test_openapi_documents_the_headers_of_answers(served: Served, document: Any) -> None:
    responses = document["paths"]["/detect"]["post"]["responses"]
    raw = {"Content-Type": "application/octet-stream"}
    answers = {
        "200": await served.client.post("/detect", content=picture(), headers=raw),
        "400": await served.client.post("/detect", content=b"none", headers=raw),
    }
    for code, answer in answers.items():
        assert str(answer.status_code) == code
        assert set(responses[code]["headers"]) <= {name.title() for name in answer.headers} | {"X-Request-ID"}
        assert "X-Request-ID" in answer.headers
    assert set(responses["200"]["headers"]) == {"X-Request-ID", "X-Model", "X-Model-Version"}
    assert all("Retry-After" in responses[status]["headers"] for status in ("429", "503"))
    assert "X-Model" not in document["paths"]["/detect/stream"]["post"]["responses"]["200"]["headers"]


BINARY = ("image/", "multipart/", "application/octet-stream", "text/html")


async def test_every_answer_in_openapi_has_an_example(document: Any) -> None:
    without = [
        (path, method, status, media_type)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status, response in operation["responses"].items()
        for media_type, content in response.get("content", {}).items()
        if not media_type.startswith(BINARY) and not {"example", "examples"} & set(content)
    ]
    assert without == []


def test_the_examples_of_openapi_are_answers_of_the_service() -> None:
    for example, model in (
        (openapi_examples.DETECTION, answers.DetectResponse),
        (openapi_examples.OBJECTS, answers.ObjectsResponse),
        (openapi_examples.BATCH, answers.BatchResponse),
        (openapi_examples.HEALTH, status.Health),
        (openapi_examples.UNHEALTHY, status.Health),
        (openapi_examples.READY, status.Readiness),
        (openapi_examples.UNREADY, status.Readiness),
        (openapi_examples.MODELS, status.ModelList),
        (openapi_examples.SAMPLES, status.SampleList),
    ):
        assert model.model_validate(example).model_dump(mode="json") == example
    found = Detections(
        np.array(openapi_examples.DETECTION["boxes"], np.float32), np.array([1]), np.array([0.98], np.float32)
    )
    subject = Subject("street.jpg", (640, 480), "coco-r50-fpn", {1: "person"})
    for name in ("yolo", "csv", "voc"):
        media_type, write = EXPORTS[name]
        written, shown = write(found, subject), openapi_examples.TEXTS[media_type.partition(";")[0]]
        if name == "voc":
            written, shown = (re.sub(r">\s+<", "><", text).strip() for text in (written, shown))
        assert written == shown
    for name, shown in (
        ("geojson", openapi_examples.GEOJSON),
        ("coco", openapi_examples.COCO),
        ("labelstudio", openapi_examples.LABEL_STUDIO),
    ):
        assert json.loads(EXPORTS[name][1](found, subject)) == shown
