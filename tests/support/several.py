"""Several fake models in one app, each with detections that tell it from the others."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from models.detections import Detections
from tests.support.fakes import CARD, FakeDetector, picture
from tests.support.model_swap import ADMIN, PNG
from tests.support.served import Serve, Served

FIRST, SECOND, THIRD = "shapes", "blood-cells", "coco-r50-fpn"  # of the zoo: a name must be of the catalogue
LABELS = {
    FIRST: ("background", "Square", "disc", "N/A", "kite"),
    SECOND: ("background", "kite", "Square", "disc", "cross"),
    THIRD: ("background", "person", "car", "N/A", "bus"),
}


@dataclass
class Forgetful(FakeDetector):
    """Keeps no job: a job holds its model, and so would its detector."""

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]:
        try:
            return super().detect(jobs, observe)
        finally:
            self.batches[:] = [[] for _ in self.batches]


@dataclass
class Models:
    """The app, and what a load of each name gives: a fresh detector each time, or an error."""

    served: Served = field(init=False)
    errors: dict[str, Exception] = field(default_factory=dict)
    detectors: dict[str, FakeDetector] = field(default_factory=dict)  # the newest by name
    loaded: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # fields of a name's detectors
    on_load: Callable[[str], None] = lambda name: None
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)  # fields of a name's card

    def __call__(self, model: str) -> FakeDetector:
        name = Path(model).stem if model.endswith(".toml") else model
        self.loaded.append(name)
        self.on_load(name)
        if name in self.errors:
            raise self.errors[name]
        fields = {"name": name, "labels": LABELS.get(name, LABELS[FIRST]), **self.cards.get(name, {})}
        card = CARD.model_copy(update=fields)
        version = f"{name}-{self.loaded.count(name)}"
        self.detectors[name] = Forgetful(card=card, version=version, **self.settings.get(name, {}))
        return self.detectors[name]

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.served.client.post(path, headers=ADMIN, **options)

    async def load(self, name: str, query: str = "") -> httpx.Response:
        return await self.post(f"/models/{name}/load{query}")

    async def unload(self, name: str) -> httpx.Response:
        return await self.post(f"/models/{name}/unload")

    async def detect(self, query: str = "", **options: Any) -> httpx.Response:
        content = options or {"content": picture(), "headers": PNG}
        return await self.served.client.post(f"/detect?{query}", **content)

    async def states(self) -> dict[str, str]:
        """The state of every model that /health lists."""
        listed = (await self.served.client.get("/health")).json()["models"]
        return {model["name"]: model["state"] for model in listed}


@asynccontextmanager
async def several(serve: Serve, model: str = f"{FIRST},{SECOND}", **settings: Any) -> AsyncIterator[Models]:
    """An app that serves these models."""
    models = Models()
    async with serve(loader=models, **{"model": model, "admin_keys": "chief"} | settings) as served:
        models.served = served
        try:
            yield models
        finally:
            for detector in models.detectors.values():
                detector.let_go()


def made_by(response: httpx.Response) -> str:
    """The model of an answer, on which its fields, names and headers agree."""
    assert response.status_code == 200, response.text
    answer = response.json()
    name = str(answer["model"])
    assert response.headers["X-Model"] == name
    assert response.headers["X-Model-Version"] == answer["model_version"]
    assert answer["model_version"].rpartition("-")[0] == name
    labels = LABELS.get(name, LABELS[FIRST])
    assert answer["names"] == [labels[label] for label in answer["labels"]]
    return name
