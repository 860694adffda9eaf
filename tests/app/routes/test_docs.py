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
from tests.support.fakes import picture
from tests.support.served import ROOT, Served


@pytest.fixture
async def document(served: Served) -> Any:
    return (await served.client.get("/openapi.json")).json()


# page and documentation


async def test_the_page_and_its_files_are_served_under_a_strict_policy(served: Served) -> None:
    index = await served.client.get("/")
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


async def test_samples_are_listed_and_served(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.png").write_bytes(picture())
    (tmp_path / "a.jpg").write_bytes(picture(format="JPEG"))
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "README.md").write_text("notes")
    monkeypatch.setattr(page, "SAMPLES", tmp_path)
    answer = (await served.client.get("/samples")).json()
    assert answer == {
        "samples": [
            {"name": "a.jpg", "url": "/samples/a.jpg", "truth": "/samples/a.json"},
            {"name": "b.png", "url": "/samples/b.png", "truth": None},
        ]
    }
    image = await served.client.get("/samples/b.png")
    assert (image.headers["content-type"], image.content) == ("image/png", picture())
    assert (await served.client.get("/samples/a.json")).status_code == 200
    assert (await served.client.get("/samples/c.png")).status_code == 404
    monkeypatch.setattr(page, "SAMPLES", tmp_path / "nowhere")
    assert (await served.client.get("/samples")).json() == {"samples": []}


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
