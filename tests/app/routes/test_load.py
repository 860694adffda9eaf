"""POST /models/NAME/load and Triton's repository: who may load a model, and by which name."""

import json
from typing import Any

import pytest

from tests.support.fakes import picture
from tests.support.model_swap import ADMIN, NEW, OLD, PNG, swap
from tests.support.served import Serve


@pytest.mark.parametrize(
    "name",
    ["nonesuch", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fx.toml", "shapes.toml", "SHAPES", "auto", "x" * 300],
)
async def test_only_a_name_of_the_catalogue_is_loaded(serve: Serve, name: str) -> None:
    async with swap(serve) as models:
        response = await models.load(name)
        code = "not_found" if "%2F" in name else "unknown_model"  # more parts of a path than the route has
        assert (response.status_code, response.json()["code"]) == (404, code)
        assert models.loader.loaded == ["auto"]


OFF: dict[str, Any] = {"admin_keys": ()}
GUEST = {"X-API-Key": "guest"}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, str], str, int, str]] = {
    "off": (OFF, ADMIN, "", 403, "to allow them, start the server with RCNN_ADMIN_KEYS"),
    "off, with a key for requests": (OFF | {"api_keys": "chief"}, ADMIN, "", 403, "RCNN_ADMIN_KEYS"),
    "no key": ({}, {}, "", 401, "no key was sent"),
    "another key": ({}, {"X-API-Key": "thief"}, "", 401, "may not load models"),
    "a key for requests": ({"api_keys": "guest"}, GUEST, "", 401, "may not load models"),
    "in the query": ({}, {}, "?api_key=chief&X-API-Key=chief&key=chief", 401, "no key was sent"),
}


@pytest.mark.parametrize(("settings", "headers", "query", "status", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("path", [f"/models/{NEW}/load", f"/v2/repository/models/{NEW}/load"])
async def test_a_load_needs_an_admin_key_in_a_header(
    serve: Serve,
    path: str,
    settings: dict[str, Any],
    headers: dict[str, str],
    query: str,
    status: int,
    reason: str,
) -> None:
    async with swap(serve, **settings) as models:
        response = await models.served.client.post(path + query, headers=headers)
        assert response.status_code == status
        assert reason in response.text
        assert models.loader.loaded == ["auto"]


async def test_an_admin_key_opens_nothing_else(serve: Serve) -> None:
    async with swap(serve, api_keys="guest") as models:
        response = await models.served.client.post("/detect", content=picture(), headers=ADMIN | PNG)
        assert response.status_code == 401
        assert (await models.load(Authorization="Bearer chief")).status_code == 200


async def test_the_repository_as_tritons_clients_see_it(serve: Serve) -> None:
    async with swap(serve, api_keys="guest") as models:
        post, get = models.served.client.post, models.served.client.get
        index, repository = "/v2/repository/index", "/v2/repository/models"
        rows = {row["name"]: row for row in (await post(index, headers=GUEST)).json()}
        assert rows[OLD] == {"name": OLD, "version": "aaa", "state": "READY", "reason": ""}
        assert rows[NEW] == {"name": NEW, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}
        assert len((await post(index, headers=GUEST, json={"ready": True})).json()) == 1
        assert (await post(index)).status_code == 401
        only = await post(f"{repository}/{OLD}/unload", headers=ADMIN)
        assert (only.status_code, "load another" in only.json()["error"]) == (409, True)
        configured = {"parameters": {"config": json.dumps({"max_batch_size": 4})}}
        response = await post(f"{repository}/{NEW}/load", headers=ADMIN, json=configured)
        assert (response.status_code, "config" in response.json()["error"]) == (422, True)
        assert (await post(f"{repository}/{NEW}/load", headers=ADMIN)).json() == {}
        assert (await post(f"{repository}/{OLD}/unload", headers=ADMIN)).json() == {}
        assert (await post(f"{repository}/nonesuch/unload", headers=ADMIN)).status_code == 404
        assert (await get(f"/v2/models/{NEW}", headers=GUEST)).json()["versions"] == ["1", "bbb"]
        ready = [await get(f"/v2/models/{NEW}/versions/{v}/ready", headers=GUEST) for v in ("bbb", "aaa")]
        assert [answer.status_code for answer in ready] == [200, 404]
