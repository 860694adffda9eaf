"""Weights that are not finite: the load is refused, and the model before serves on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.main import create_app
from app.settings.settings import Settings
from models.zoo.download import sha256_of
from tests.support.served import ROOT, eventually

pytestmark = pytest.mark.network

ZOO = ROOT / "models/zoo"
IMAGE = (ROOT / "samples/shapes-1.jpg").read_bytes()
FAULTS = {
    "all-nan": (float("nan"), slice(None)),
    "one-nan": (float("nan"), slice(1)),
    "one-inf": (float("inf"), slice(1)),
}


def write_model(folder: Path, name: str, suffix: str, hashed: bool) -> str:
    """The bundled model with a fault in its weights; its name in the catalogue."""
    value, where = FAULTS[name]
    state = {key: tensor.float() for key, tensor in load_file(ZOO / "shapes.safetensors").items()}
    faulty = list(state) if name.startswith("all") else [key for key in state if key.endswith("weight")][-1:]
    for key in faulty:
        state[key].view(-1)[where] = value
    path = folder / f"{name}{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    card = (ZOO / "shapes.toml").read_text().replace('name = "shapes"', f'name = "{name}"')
    lines = [line for line in card.splitlines() if not line.startswith(("weights", "sha256"))]
    lines[:0] = [f'weights = "file:{path.name}"', *([f'sha256 = "{sha256_of(path)}"'] if hashed else [])]
    (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")
    return name


@asynccontextmanager
async def serving(model: str, model_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(model=model, model_dir=model_dir, device="cpu", max_batch=1, admin_keys="chief")
    app = create_app(settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)
    async with app.router.lifespan_context(app), client:
        await eventually(lambda: app.state.service.state != "loading", "the load has ended", 60)
        yield client


async def test_such_a_load_is_422_and_the_model_before_serves_on(tmp_path: Path) -> None:
    files = zip(FAULTS, (".safetensors", ".pt", ".pth"), (True, False, False), strict=True)
    names = [write_model(tmp_path, *file) for file in files]
    async with serving("shapes", tmp_path) as client:
        before = (await client.get("/health")).json()["model_version"]
        for name in names:
            response = await client.post(f"/models/{name}/load", headers={"X-API-Key": "chief"})
            assert (response.status_code, response.json()["code"]) == (422, "load_failed")
            assert "values that are not finite" in response.json()["detail"]
            assert "get the file again" in response.json()["detail"]
        answer = await client.post("/detect", content=IMAGE, headers={"Content-Type": "image/jpeg"})
        assert (answer.status_code, answer.json()["model_version"]) == (200, before)
        assert answer.json()["boxes"]
        hashes = {card["name"]: card["sha256"] for card in (await client.get("/models")).json()["models"]}
        assert [hashes[name] is None for name in names] == [False, True, True]


async def test_such_a_model_of_the_settings_is_an_error_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = write_model(tmp_path, "one-nan", ".pt", hashed=False)
    async with serving(name, tmp_path) as client:
        assert (await client.get("/health/ready")).json()["status"] == "failing"
    [failure] = [record for record in caplog.records if "the model cannot be loaded" in record.message]
    assert "holds 1 of" in failure.message
    assert failure.exc_info is None  # said in one line, without a traceback
