"""Roboflow's routes for models, and the route of its hosted API."""

from typing import Any

import httpx
import pytest

from tests.support.model_swap import ADMIN
from tests.support.protocols import PNG, TEXT
from tests.support.served import Serve
from tests.support.several import FIRST, SECOND, THIRD, several


def ids(response: httpx.Response) -> list[str]:
    """The listed names of models, but for their other spellings."""
    return [name for name in spellings(response) if "/" not in name]


def spellings(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [model["model_id"] for model in response.json()["models"]]


async def test_inference_sdk_finds_every_spelling_of_a_loaded_model_and_a_wrong_name_is_explained(
    serve: Serve,
) -> None:
    """It looks for the name in the registry, then sends it to /model/add and looks in the answer."""
    async with several(serve, api_keys="guest", model_aliases=f"coco/3={SECOND}") as models:
        client, key = models.served.client, {"api_key": "guest"}
        listed = spellings(await client.get("/model/registry", params=key))
        assert {FIRST, f"{FIRST}/1", f"{FIRST}/{FIRST}-1", SECOND, "coco/3"} <= set(listed)
        assert spellings(await client.post("/model/add", json={"model_id": "coco/3", **key})) == listed
        wrong = await client.post("/model/add", json={"model_id": "coco/25", **key})
        assert (wrong.status_code, list(wrong.json())) == (404, ["message"])
        assert all(text in wrong.json()["message"] for text in ("coco/25", FIRST, SECOND, "RCNN_ADMIN_KEYS"))
        assert (await client.post("/model/add", json={"model_id": "coco/25"})).status_code == 401


async def test_models_are_added_removed_and_cleared(serve: Serve) -> None:
    aliases = f"coco/25={THIRD}"
    async with several(serve, max_loaded_models=4, model_aliases=aliases) as models:
        post = models.served.client.post
        assert ids(await models.served.client.get("/model/registry")) == [FIRST, SECOND]
        add = {"model_id": "coco/25", "api_key": "chief"}  # as inference_sdk sends it
        assert ids(await post("/model/add", json=add)) == [FIRST, SECOND, THIRD]
        assert ids(await post("/model/add", json=add)) == [FIRST, SECOND, THIRD]
        assert models.loaded == [FIRST, SECOND, THIRD]
        remove = {"model_id": THIRD}
        assert ids(await post("/model/remove", json=remove, headers=ADMIN)) == [FIRST, SECOND]
        default = await post("/model/remove", json={"model_id": FIRST}, headers=ADMIN)
        assert (default.status_code, "default" in default.json()["message"]) == (409, True)
        await post("/model/add", json=add)
        assert ids(await post("/model/clear", headers=ADMIN)) == [FIRST, SECOND]
        info = (await models.served.client.get("/info")).json()
        assert (info["name"], set(info)) == ("rcnn-serve", {"name", "version", "uuid"})


@pytest.mark.parametrize("path", ["/model/add", "/model/remove", "/model/clear"])
@pytest.mark.parametrize(
    "body", [b"", b'{"model_id": "coco/1"}', b'{"model_id": "coco/1", "api_key": "x"}', b"{"]
)
async def test_models_are_changed_with_an_admin_key_alone(serve: Serve, path: str, body: bytes) -> None:
    async with several(serve, api_keys="guest", max_loaded_models=3) as models:
        for headers in ({}, {"X-API-Key": "guest"}):
            response = await models.served.client.post(f"{path}?api_key=chief", content=body, headers=headers)
            told = path == "/model/add" and headers and b"}" in body  # that it is not loaded
            assert (response.status_code, list(response.json())) == (404 if told else 401, ["message"])
        assert models.loaded == [FIRST, SECOND]


@pytest.mark.parametrize(
    "sent",
    [
        {"content": TEXT, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"files": {"file": ("a.png", PNG, "image/png")}},
        {"content": PNG, "headers": {"Content-Type": "image/png"}},
    ],
)
async def test_the_hosted_apis_route_is_answered_by_the_model_of_its_path(
    serve: Serve, sent: dict[str, Any]
) -> None:
    async with several(serve, api_keys="guest", model_aliases=f"cells/7={SECOND}") as models:
        post = models.served.client.post
        query = {"api_key": "guest", "confidence": "80", "overlap": "30", "stroke": "2"}
        for path, name in (("/cells/7", SECOND), (f"/{FIRST}/1", FIRST)):
            response = await post(path, params=query, **sent)
            assert response.status_code == 200, response.text
            assert response.headers["X-Model"] == name
            [found] = response.json()["predictions"]
            assert found["class"] == models.detectors[name].card.labels[1]
        drawn = await post("/cells/7", params=query | {"format": "image"}, **sent)
        assert drawn.headers["content-type"] == "image/jpeg"
        assert (await post("/cells/8", params=query, **sent)).status_code == 404
        assert (await post("/cells/7", **sent)).status_code == 401
        assert (await post("/cells/seven", params=query, **sent)).json()["code"] == "not_found"
