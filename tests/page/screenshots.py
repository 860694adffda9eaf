"""Takes the screenshots of docs/page.md from a real server; `make screenshots` runs it."""

import argparse
import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from PIL import Image as pillow
from playwright.sync_api import Browser, Page, expect

from models.zoo.catalogue import ZOO
from tests.support.chromium import chromium, served
from tests.support.served import ROOT

FOLDER = ROOT / "docs" / "screenshots"
SCENES = ROOT / "app" / "samples"
NAMES = (
    "desktop",
    "batch",
    "video",
    "two-models",
    "code",
    "errors",
    "dark",
    "phone",
    "models",
    "metrics",
    "captures",
)
MOST_BYTES = 600_000
SMALLER = "shapes-128"
KEY, RULES = "change-me", "score=0.5-0.8,class=ring,share=1"
QUALITY = 70  # of the WebP files

OpenPage = Callable[..., Page]


def write_smaller_model(folder: Path) -> Path:
    """A card of the weights of `shapes` that sees images smaller, to compare with it."""
    weights = ZOO / "shapes.safetensors"
    shutil.copy(weights, folder)
    text = (ZOO / "shapes.toml").read_text().partition("[training]")[0]
    changes = {'name = "shapes"': f'name = "{SMALLER}"', "min_size = 320": "min_size = 128"}
    for before, after in changes.items():
        text = text.replace(before, after)
    card = folder / f"{SMALLER}.toml"
    card.write_text(text)
    return card


def scene(number: int) -> pillow.Image:
    """One of the drawn scenes."""
    return pillow.open(SCENES / f"shapes-{number}.jpg").convert("RGB")


def animation() -> bytes:
    """A scene that moves to the left: a GIF of eight frames."""
    pixels = np.asarray(scene(1))
    frames = [pillow.fromarray(np.roll(pixels, -24 * step, axis=1)) for step in range(8)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return file.getvalue()


def choose(page: Page, *files: str | tuple[str, bytes]) -> None:
    """Open samples by their names, or files of this content, and wait until all are detected."""
    payloads = [(file, (SCENES / file).read_bytes()) if isinstance(file, str) else file for file in files]
    page.set_input_files(
        "#file", [{"name": name, "mimeType": "", "buffer": content} for name, content in payloads]
    )
    expect(page.locator("#strip")).to_be_visible()
    expect(page.locator("#strip-progress")).to_be_hidden()
    expect(page.locator("#busy")).to_be_hidden()
    page.mouse.move(0, 0)


def open_captures(page: Page, url: str) -> Page:
    """The page of captures, once the three scenes are kept."""
    deadline = time.monotonic() + 20
    while httpx.get(f"{url}health").json()["captures"]["count"] < 3:
        assert time.monotonic() < deadline, "the scenes are not kept"
    page.goto(f"{url}captures")
    page.get_by_label("Admin key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".shot .boxes")).to_have_count(3)
    return page


def walk(open_page: OpenPage, url: str) -> Iterator[tuple[str, Page]]:
    """Each name with the page as it is to be seen."""
    scenes = tuple(f"shapes-{number}.jpg" for number in (1, 2, 3))
    page = open_page()
    for file in scenes:
        httpx.post(f"{url}detect", content=(SCENES / file).read_bytes(), timeout=60).raise_for_status()
    yield "captures", open_captures(page, url)  # before the page sends images that are kept too
    page = open_page()
    choose(page, scenes[0])
    yield "desktop", page
    choose(page, scenes[1], scenes[2], ("notes.jpg", b"not an image"))
    page.locator(".thumb").nth(2).click()
    page.locator(".found").first.click()
    yield "batch", page
    page.get_by_role("button", name="notes.jpg").click()
    expect(page.locator("#notice")).to_be_visible()
    yield "errors", page
    page.get_by_role("button", name="Clear").click()
    choose(page, ("moving.gif", animation()))
    page.locator(".thumb").nth(3).click()
    yield "video", page
    page.get_by_role("tab", name="Code").click()
    page.get_by_text("Python", exact=True).click()
    yield "code", page
    page.get_by_role("tab", name="Objects").click()
    page.locator(".sample").nth(1).click()
    expect(page.locator(".found").first).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    page.locator("#model-b").select_option(SMALLER)
    expect(page.locator("#compared")).to_contain_text("in both")
    yield "two-models", page
    page = open_page(color_scheme="dark")
    choose(page, scenes[1])
    yield "dark", page
    page = open_page(width=360, height=740, device_scale_factor=2, has_touch=True, is_mobile=True)
    choose(page, scenes[2])
    yield "phone", page
    for name in ("models", "metrics"):
        page = open_page()
        page.goto(f"{url}{name}")
        expect(page.locator(".cards .card, tbody tr").first).to_be_visible()
        yield name, page


def take(browser: Browser, url: str, folder: Path) -> None:
    """Write a WebP file for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def open_page(width: int = 1280, height: int = 800, **context: Any) -> Page:
            viewport = {"width": width, "height": height}
            page = stack.enter_context(browser.new_context(viewport=viewport, **context)).new_page()
            page.goto(url)
            expect(page.locator("#serving")).to_have_attribute("data-status", "ok", timeout=120_000)
            return page

        for name, page in walk(open_page, url):
            with pillow.open(io.BytesIO(page.screenshot())) as shot:
                shot.convert("RGB").save(folder / f"{name}.webp", quality=QUALITY, method=6)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    with TemporaryDirectory() as folder:
        models = f"shapes,{write_smaller_model(Path(folder))}"
        settings = {"admin_keys": KEY, "capture_dir": Path(folder) / "kept", "capture_rules": RULES}
        with chromium() as browser, served(None, model=models, **settings) as url:
            take(browser, url, out)


if __name__ == "__main__":
    main()
