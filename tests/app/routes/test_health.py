"""What people and machines ask about the service: health, metrics, catalogue, documents, page; and keys."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import version
from app.errors import error_classes
from app.main import create_app
from app.routes import page
from app.schemas import responses as answers
from app.schemas import status
from app.schemas.exports import EXPORTS, Subject
from app.schemas.options import DetectQuery
from app.settings.settings import Settings
from app.transport import openapi_examples
from models.detections import Detections
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.served import ROOT, Serve, Served, eventually

HEALTH_KEYS = [
    *("status", "model", "model_version", "loading", "device", "devices", "engine", "precision", "version"),
    *("queue_depth", "uptime_seconds", "fallback_reason"),
]
KEYS = {"api_keys": "first-key,second-key"}
OPEN = (
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/",
    "/web/app.js",
    "/samples",
    "/docs",
    "/openapi.json",
)
GUARDED = ("/models", "/labels")


async def status_of(served: Served, path: str) -> int:
    return (await served.client.get(path)).status_code


# states


async def test_a_ready_service_says_what_it_is(serve: Serve) -> None:
    async with serve(FakeDetector(fallback_reason="no weights")) as served:
        response = await served.client.get("/health")
        health = response.json()
        assert (response.status_code, list(health)) == (200, HEALTH_KEYS)
        assert health.pop("uptime_seconds") > 0
        assert health == {
            "status": "ok",
            "model": "fake",
            "model_version": "1",
            "loading": None,
            "device": "cpu",
            "devices": [{"device": "cpu", "state": "working", "reason": None}],
            "engine": "fake",
            "precision": "fp32",
            "version": version(),
            "queue_depth": 0,
            "fallback_reason": "no weights",
        }
        assert await status_of(served, "/health/live") == 200
        ready = await served.client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "status": "ok", "reason": None})
        assert await served.metric("rcnn_model_ready") == 1


async def check_not_ready(served: Served, expected: str, reason: str) -> None:
    health, ready = await served.client.get("/health"), await served.client.get("/health/ready")
    assert (health.status_code, health.json()["status"]) == (503, expected)
    assert list(health.json()) == HEALTH_KEYS
    assert (ready.status_code, ready.json()["status"], ready.json()["ready"]) == (503, expected, False)
    assert reason in ready.json()["reason"]
    assert int(ready.headers["retry-after"]) >= 1
    assert await status_of(served, "/health/live") == 200
    assert await served.metric("rcnn_model_ready") == 0
    refused = await served.client.post("/detect", files={"image": picture()})
    assert (refused.status_code, refused.json()["code"]) == (503, expected)
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_loading_service_says_so(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        await check_not_ready(served, "loading", "loaded")
        assert (await served.client.get("/health")).json()["model"] is None
        assert (await served.client.get("/models")).json()["loaded"] is None
        assert (await served.client.get("/labels")).json()["code"] == "loading"
        detector.warm.set()
        await served.ready()
        assert await status_of(served, "/health/ready") == 200


async def test_a_draining_service_says_so(served: Served) -> None:
    served.app.state.service.drain()
    await check_not_ready(served, "draining", "stopping")


LOAD_ERRORS: dict[str, tuple[Exception, bool]] = {
    "a card": (ValueError("no card of this name at /srv/models"), False),
    "a file": (FileNotFoundError(2, "no such file", "/srv/models/a.pt"), False),
    "a bug": (KeyError("weights"), True),
}


@pytest.mark.parametrize(("error", "traced"), LOAD_ERRORS.values(), ids=LOAD_ERRORS)
async def test_a_service_without_a_model_says_so(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception, traced: bool
) -> None:
    async with serve(FakeDetector(load_error=error), ready=False) as served:
        await eventually(lambda: served.app.state.service.state == "failing", "loading has failed")
        await check_not_ready(served, "failing", "log")
        assert "/srv" not in (await served.client.get("/health/ready")).text
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert str(error) in record.getMessage()
        assert bool(record.exc_info) is traced


async def test_a_model_that_is_named_and_not_there_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """By the real road to a model: no other one takes its place."""
    app = create_app(Settings(model="no-such-model", cache_dir=Path("/nowhere")))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "failing", "loading has failed", seconds=60)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "no-such-model" in record.getMessage()
    assert "coco-r50-fpn" in record.getMessage()


async def test_warm_up_decides_how_large_batches_become(serve: Serve) -> None:
    async with serve(FakeDetector(best_batch=3), max_batch=16) as served:
        served.detector.free.clear()
        files = [("image", picture()) for _ in range(8)]
        request = asyncio.ensure_future(served.client.post("/detect/batch", files=files))
        detector, service = served.detector, served.app.state.service
        await eventually(
            lambda: bool(detector.batches) and len(detector.reached) + service.queue_depth == 8,
            "all are on the device or wait for it",
        )
        served.detector.free.set()
        assert len((await request).json()["results"]) == 8
        assert max(len(batch) for batch in served.detector.batches) == 3


# metrics and catalogue


async def test_metrics_tell_what_is_loaded(serve: Serve) -> None:
    async with serve(FakeDetector(memory={"allocated": 5, "reserved": 9})) as served:
        facts = {
            "name": "fake",
            "architecture": "fake",
            "engine": "fake",
            "precision": "fp32",
            "device": "cpu",
            "version": "1",
        }
        assert await served.metric("rcnn_model_info", **facts) == 1
        assert await served.metric("rcnn_device_memory_bytes", device="cpu", kind="allocated") == 5
        assert await served.metric("rcnn_device_memory_bytes", device="cpu", kind="reserved") == 9
        response = await served.client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "process_resident_memory_bytes" in response.text


async def test_the_catalogue_lists_the_zoo_and_what_is_loaded(served: Served) -> None:
    answer = (await served.client.get("/models")).json()
    names = {model["name"]: model["loaded"] for model in answer["models"]}
    assert answer["loaded"] == "fake"
    assert names["fake"] is True
    assert names["coco-r50-fpn"] is False
    [fake] = [model for model in answer["models"] if model["loaded"]]
    assert fake["labels"] == list(CARD.labels)
    assert fake["score_threshold"] == CARD.score_threshold


async def test_the_catalogue_keeps_the_server_s_folders_to_itself(serve: Serve, tmp_path: Path) -> None:
    card = (
        'name = "mine"\narchitecture = "resnet50_fpn"\nweights = "file:m.pt"\nlabels = ["background", "a"]\n'
    )
    (tmp_path / "mine.toml").write_text(card)
    async with serve(model_dir=tmp_path) as served:
        response = await served.client.get("/models")
        assert "mine" in [model["name"] for model in response.json()["models"]]
        assert str(tmp_path) not in response.text
        assert str(ROOT) not in response.text


async def test_labels_leave_out_what_is_no_class(served: Served) -> None:
    assert (await served.client.get("/labels")).json() == {"1": "Square", "2": "disc", "4": "kite"}


# keys

RIGHT = [
    {"Authorization": "Bearer first-key"},
    {"Authorization": "bearer second-key"},
    {"X-API-Key": "second-key"},
    {"X-API-Key": "first-key", "Authorization": "Basic YTpi"},
]
WRONG: list[dict[str, Any]] = [
    {},
    {"Authorization": "Bearer first-ke"},
    {"Authorization": "first-key"},
    {"Authorization": "Basic first-key"},
    {"X-API-Key": "first-key,second-key"},
    {"X-API-Key": ""},
    {"X-API-Key": "kéy".encode("latin-1")},
    {"Cookie": "X-API-Key=first-key"},
]


@pytest.mark.parametrize("headers", RIGHT)
async def test_a_key_opens_every_door(serve: Serve, headers: dict[str, str]) -> None:
    async with serve(**KEYS) as served:
        for path in GUARDED:
            assert (await served.client.get(path, headers=headers)).status_code == 200
        files = {"image": picture()}
        for path in ("/detect", "/detect/batch"):
            assert (await served.client.post(path, files=files, headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", WRONG)
async def test_without_a_key_only_what_is_open_is_open(serve: Serve, headers: dict[str, Any]) -> None:
    async with serve(**KEYS) as served:
        refused = [await served.client.get(path, headers=headers) for path in GUARDED]
        for path in ("/detect", "/detect/batch"):
            refused.append(await served.client.post(f"{path}?size=0", content=b"x", headers=headers))
        for response in refused:
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            assert "first-key" not in response.text
        for path in OPEN:
            assert (await served.client.get(path, headers=headers)).status_code == 200


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
    assert await status_of(served, "/samples/a.json") == 200
    assert await status_of(served, "/samples/c.png") == 404


async def test_without_a_samples_folder_there_are_no_samples(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_openapi_documents_every_option_body_and_error(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    detect = document["paths"]["/detect"]["post"]
    assert [one["name"] for one in detect["parameters"]] == [*DetectQuery.model_fields, "X-Priority"]
    assert all(one["description"] for one in detect["parameters"])
    assert set(detect["requestBody"]["content"]) == {
        *("multipart/form-data", "image/*", "application/octet-stream", "application/json")
    }
    assert set(detect["responses"]["200"]["content"]) == {
        *("application/json", "image/png", "image/jpeg"),
        *("application/geo+json", "application/xml", "text/csv", "text/plain"),
    }
    documented = {
        code
        for response in detect["responses"].values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    elsewhere = {"not_found", "method_not_allowed", "forbidden", "conflict", "load_failed"}
    elsewhere.add("foreign_origin")  # of web sockets
    assert documented == {kind.code for kind in error_classes()} - elsewhere
    assert document["info"]["version"] == version()


async def test_openapi_documents_the_headers_of_answers(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
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


async def test_openapi_names_the_keys_of_what_may_be_refused_without(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    assert set(document["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}
    operations = [one for path in document["paths"].values() for one in path.values()]
    guarded = [one for one in operations if "security" in one]
    assert guarded == [one for one in operations if "401" in one["responses"]]
    assert document["paths"]["/detect"]["post"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert "security" not in document["paths"]["/health"]["get"]


BINARY = ("image/", "multipart/", "application/octet-stream", "text/html")


async def test_every_answer_in_openapi_has_an_example(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    without = [
        (path, method, status, media_type)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status, response in operation["responses"].items()
        for media_type, content in response.get("content", {}).items()
        if not media_type.startswith(BINARY) and not {"example", "examples"} & set(content)
    ]
    assert without == []


async def test_the_examples_of_openapi_are_what_the_service_says(served: Served) -> None:
    for example, model in (
        (openapi_examples.DETECTION, answers.DetectResponse),
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
    assert json.loads(EXPORTS["geojson"][1](found, subject)) == openapi_examples.GEOJSON


async def test_every_reference_in_openapi_leads_somewhere(served: Served) -> None:
    response = await served.client.get("/openapi.json")
    document = response.json()
    references = set(re.findall(r'"#/components/schemas/(\w+)"', response.text))
    assert references
    assert references <= set(document["components"]["schemas"])
