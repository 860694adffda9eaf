"""Label Studio's ML backend by the requests that Label Studio itself sends."""

from typing import Any

import httpx
import pytest

from app.transport.url_images import Fetcher
from tests.support.protocols import FOUND, PNG, TEXT, in_pieces
from tests.support.served import Serve, Served

CONFIG = (
    '<View><Image name="img" value="$photo"/><RectangleLabels name="box" toName="img">'
    '<Label value="SQUARE"/><Label value="person"/></RectangleLabels></View>'
)
STUDIO = "http://studio.internal:8080"
OWN = {"label_studio_url": STUDIO, "label_studio_token": "secret"}


def body(*addresses: object, config: str = CONFIG) -> dict[str, Any]:
    """As its make_predictions sends it."""
    tasks = [{"id": number, "data": {"photo": one}} for number, one in enumerate(addresses)]
    return {"tasks": tasks, "project": "1.1690000000", "label_config": config, "params": {"context": None}}


def connect(served: Served, requests: list[httpx.Request]) -> None:
    """A Label Studio at a private address in place of the network."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.7"]

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=in_pieces(PNG))

    served.app.state.fetcher = Fetcher(10_000, resolve, httpx.MockTransport(answer))


async def test_tasks_of_label_studio_are_predicted_with_its_token(serve: Serve) -> None:
    requests: list[httpx.Request] = []
    async with serve(**OWN) as served:
        connect(served, requests)
        sent = {"project": "1.1690000000", "schema": CONFIG, "hostname": "http://evil", "access_token": "x"}
        setup = await served.client.post("/setup", json=sent)
        assert setup.json() == {"model_version": "fake-1"}
        files = ("/data/upload/1/a.png", f"{STUDIO}/data/upload/1/b.png")
        response = await served.client.post("/predict", json=body(*files, f"data:image/png;base64,{TEXT}"))
        assert response.status_code == 200, response.text
        assert [str(one.headers["authorization"]) for one in requests] == ["Token secret"] * 2
        assert [one.url.path for one in requests] == ["/data/upload/1/a.png", "/data/upload/1/b.png"]
        results = response.json()["results"]
        assert len(results) == 3
        (name, score, (left, top, right, bottom)), *_ = FOUND
        for one in results:
            assert (one["model_version"], one["score"]) == ("fake-1", score)
            [region] = one["result"]  # a disc is no label of the project
            assert (region["from_name"], region["to_name"]) == ("box", "img")
            value = region["value"]
            assert value["rectanglelabels"] == [name.upper()]
            assert value["x"] / 100 * 64 == pytest.approx(left, abs=0.001)
            assert value["y"] / 100 * 48 == pytest.approx(top, abs=0.001)
            assert value["width"] / 100 * 64 == pytest.approx(right - left, abs=0.001)
            assert value["height"] / 100 * 48 == pytest.approx(bottom - top, abs=0.001)
        assert (await served.client.post("/webhook", json={"action": "START_TRAINING"})).status_code == 201


async def test_the_token_goes_to_label_studio_alone(serve: Serve) -> None:
    requests: list[httpx.Request] = []
    async with serve(**OWN, fetch_urls=True) as served:
        connect(served, requests)
        for address in ("http://10.0.0.7:8080/a.png", "http://studio.internal/a.png", "//evil:8080/a.png"):
            response = await served.client.post("/predict", json=body(address))
            assert response.status_code == 422, response.text
            assert "not public" in response.json()["error"]
        assert requests == []


WRONG: dict[str, tuple[Any, str]] = {
    "no Label Studio": (body("/data/upload/1/a.png"), "RCNN_LABEL_STUDIO_URL"),
    "an address elsewhere": (body("http://example.com/a.png"), "RCNN_FETCH_URLS"),
    "no image": (body(None), "`photo`"),
    "no XML": (body("/a.png", config="<View>"), "not XML"),
    "entities": (body("/a.png", config="<!DOCTYPE x [<!ENTITY a 'a'>]><View/>"), "document type"),
    "no boxes": (body("/a.png", config='<View><Image name="i" value="$i"/></View>'), "RectangleLabels"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_cannot_be_predicted_is_explained(served: Served, name: str) -> None:
    sent, expected = WRONG[name]
    response = await served.client.post("/predict", json=sent)
    assert response.status_code == 422, response.text
    assert expected in response.json()["error"]
