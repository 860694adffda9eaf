"""Keys: which routes need one, and where a request may carry it."""

from typing import Any

import pytest

from tests.support.fakes import picture
from tests.support.served import Serve

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
