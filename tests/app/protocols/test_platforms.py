"""The routes that platforms expect: probes by other names, SageMaker, Vertex AI, CodeProject.AI."""

import pytest

from tests.support.fakes import FakeDetector
from tests.support.protocols import PNG, PROTOCOLS, as_json, encoded, kserve_objects
from tests.support.served import Serve, Served

VERTEX = "/v1/endpoints/12/deployedModels/34"
PREDICT = f"{VERTEX}:predict"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", VERTEX])
async def test_readiness_has_the_names_that_platforms_ask_for(serve: Serve, path: str) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False, api_keys="secret") as served:
        assert (await served.client.get(path)).status_code == 503
        assert (await served.client.get("/livez")).json() == {"status": "alive"}
        detector.warm.set()
        await served.ready()
        assert (await served.client.get(path)).status_code == 200


async def test_sagemakers_and_vertex_ais_requests_are_answered(served: Served) -> None:
    image = {"Content-Type": "application/x-image"}
    invoked = await served.client.post("/invocations", content=PNG, headers=image)
    assert invoked.json()["names"] == ["Square", "disc"]
    content, media_type = as_json({"instances": [{"b64": encoded(PNG)}], "parameters": {"max_detections": 1}})
    predicted = await served.client.post(PREDICT, content=content, headers={"Content-Type": media_type})
    assert [name for name, *_ in kserve_objects(predicted.json())] == ["Square"]
    PROTOCOLS["kserve"].refused(await served.client.post(PREDICT, content=b"{}"), 422)
    PROTOCOLS["kserve"].refused(await served.client.get(f"{VERTEX}/other"), 404)


ROUTES = {"AIP_HEALTH_ROUTE": "/vertex/ready", "AIP_PREDICT_ROUTE": "/predict"}


async def test_vertex_ai_may_choose_its_routes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in ROUTES.items():
        monkeypatch.setenv(name, path)
    content, media_type = as_json({"instances": [{"b64": encoded(PNG)}]})
    headers = {"Content-Type": media_type}
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False) as served:
        assert (await served.client.get("/vertex/ready")).status_code == 503
        detector.warm.set()
        await served.ready()
        assert (await served.client.get("/vertex/ready")).json() == {"ready": True}
        predicted = await served.client.post("/predict", content=content, headers=headers)
        assert [name for name, *_ in kserve_objects(predicted.json())] == ["Square", "disc"]
        wrong = await served.client.post("/predict", content=b"{}", headers=headers)
        assert "instances" in PROTOCOLS["kserve"].refused(wrong, 422)


async def test_a_chosen_route_that_is_ours_stays_ours(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/health")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/detect")
    async with serve() as served:
        assert (await served.client.get("/health")).json()["model"] == "fake"
        found = await served.client.post("/detect", content=PNG, headers={"Content-Type": "image/png"})
        assert found.json()["names"] == ["Square", "disc"]


async def test_predictions_need_a_key(serve: Serve) -> None:
    async with serve(api_keys="secret") as served:
        for path in ("/invocations", PREDICT):
            assert (await served.client.post(path, content=PNG)).status_code == 401


async def test_codeproject_ais_status_has_both_names(served: Served) -> None:
    for path in ("/v1/status", "/v1/server/status"):
        assert (await served.client.get(f"{path}/ping")).json()["success"] is True
        assert set((await served.client.get(f"{path}/version")).json()["version"]) == {
            "major",
            "minor",
            "patch",
        }


async def test_codeproject_ais_modules_are_this_server(serve: Serve) -> None:
    detector = FakeDetector()
    detector.warm.clear()
    paths = ("/v1/module/list/status", "/v1/status/analysis/list", "/v1/server/status/modules/list")
    async with serve(detector, ready=False, api_keys="secret") as served:
        assert {await _state(served, path) for path in paths} == {"Starting"}
        detector.warm.set()
        await served.ready()
        assert {await _state(served, path) for path in paths} == {"Started"}
        for path in ("/v1/module/list", "/v1/module/list/installed", "/v1/module/list/running"):
            [module] = (await served.client.get(path)).json()["modules"]
            assert (module["moduleId"], module["status"]) == ("ObjectDetectionRCNN", "Installed")


async def _state(served: Served, path: str) -> str:
    [module] = (await served.client.get(path)).json()["statuses"]
    assert module["queue"] == "objectdetection_queue"
    return str(module["status"])
