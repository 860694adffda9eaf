"""Two models to swap: the old one serves, and the new one may be loaded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.served import Serve, Served

ADMIN = {"X-API-Key": "chief"}
PNG = {"Content-Type": "image/png"}
OLD, NEW = "shapes", "blood-cells"  # both in the zoo: a name must be of the catalogue
NEW_LABELS = ("background", "kite", "Square", "disc", "cross")


def fake(name: str, version: str, **fields: Any) -> FakeDetector:
    labels = CARD.labels if name == OLD else NEW_LABELS
    card = CARD.model_copy(update={"name": name, "labels": labels})
    return FakeDetector(card=card, version=version, **fields)


@dataclass
class Loader:
    """The result of a load by name, and the names that were loaded."""

    detectors: dict[str, FakeDetector | Exception]
    loaded: list[str] = field(default_factory=list)

    def __call__(self, model: str) -> FakeDetector:
        self.loaded.append(model)
        detector = self.detectors[OLD if model == "auto" else Path(model).stem]
        if isinstance(detector, Exception):
            raise detector
        return detector


@dataclass(frozen=True)
class Swap:
    """A service with the old model, and the loader that has the new one."""

    served: Served
    loader: Loader
    old: FakeDetector
    new: FakeDetector

    async def load(self, name: str = NEW, **headers: str) -> httpx.Response:
        return await self.served.client.post(f"/models/{name}/load", headers=ADMIN | headers)

    def detect(self, query: str = "") -> "asyncio.Future[httpx.Response]":
        post = self.served.client.post(f"/detect?{query}", content=picture(), headers=PNG)
        return asyncio.ensure_future(post)

    async def serving(self) -> tuple[str, str]:
        """Name and version of the model that answers."""
        return made_by(await self.detect())


def made_by(response: httpx.Response) -> tuple[str, str]:
    """Name and version, on which the answer and its headers agree."""
    assert response.status_code == 200, response.text
    answer = response.json()
    named = (answer["model"], answer["model_version"])
    assert (response.headers["X-Model"], response.headers["X-Model-Version"]) == named
    return named


@asynccontextmanager
async def swap(
    serve: Serve, old: FakeDetector | None = None, error: Exception | None = None, **settings: Any
) -> AsyncIterator[Swap]:
    """Version "aaa" of the old model serves; "bbb" of the new one can be loaded, or fails with the error."""
    old, new = old or fake(OLD, "aaa"), fake(NEW, "bbb")
    loader = Loader({OLD: old, NEW: error or new})
    async with serve(old, loader=loader, **{"admin_keys": "chief"} | settings) as served:
        try:
            yield Swap(served, loader, old, new)
        finally:
            new.let_go()
