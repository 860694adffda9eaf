"""Every command of the pages is run, or checked where it needs a network, a GPU or hours."""

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import cli
from app.settings.settings import Settings
from models.zoo.cards import read_card
from tests.docs.commands import PAGES, Block, blocks, called, check, split
from tests.support.chromium import served
from tests.support.data.moving import animation, video
from tests.support.fakes import picture
from tests.support.rcnn import rcnn
from tests.support.served import ROOT
from tests.support.several import FIRST, SECOND, THIRD, Models

HERE = "http://127.0.0.1:8000"
BASE64 = "/9j/4AAQ…"  # how pages show an image in base64
RUN = [block for block in blocks("console") if block.reason is None]
CHECKED = [block for block in blocks("console") if block.reason is not None]
PYTHON = blocks("python")


def name(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{(block.commands or [''])[0][:30]}"


@pytest.fixture
def url() -> Iterator[str]:
    """The real app with three models, as the pages assume them."""
    with served(None, loader=Models(), model=f"{THIRD},{SECOND},{FIRST}", admin_keys="CHIEF") as url:
        deadline = time.monotonic() + 20
        while httpx.get(f"{url}health/ready").status_code != 200:
            assert time.monotonic() < deadline, "the models are not loaded"
        yield url.rstrip("/")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a reader: a clone, with images, an animation and a video of his own."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "photo.jpg").write_bytes(picture(format="JPEG"))
    (tmp_path / "aerial.tif").write_bytes(picture(format="TIFF"))
    (tmp_path / "clip.gif").write_bytes(animation())
    (tmp_path / "film.mp4").write_bytes(video())
    for folder in ("holiday", "a/b", "photos"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(tmp_path / "photo.jpg", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def here(text: str, url: str) -> str:
    """The text of a page with the address of the test's server, and a real image."""
    return text.replace(HERE, url).replace(BASE64, base64.b64encode(picture(format="JPEG")).decode())


def check_settings(variables: dict[str, str]) -> None:
    """The server accepts these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        Settings()


def run(words: list[str], settings: dict[str, str], url: str) -> None:
    """Run a command of a page in this folder."""
    match words:
        case ["curl", *_]:
            command = [words[0], "--silent", "--show-error", "--fail-with-body", *words[1:]]
            done = subprocess.run(command, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
        case ["bash" | "python" as program, *arguments]:
            command = [sys.executable if program == "python" else program, *arguments]
            environment = {**os.environ, "RCNN_URL": url}
            done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
        case ["rcnn", "serve"]:
            check_settings(settings)
        case ["rcnn", *arguments]:
            detects = arguments[0] == "detect" and "--url" not in arguments
            ran = rcnn(*arguments, *(["--url", url] if detects else []))
            assert ran.code == 0, ran.err
        case _:
            pytest.fail(f"{words[0]} is not run here: mark the block with <!-- only checked: REASON -->")


@pytest.mark.parametrize("block", RUN, ids=name)
def test_commands_run(block: Block, url: str, reader: Path) -> None:
    variables: dict[str, str] = {}
    for command in block.commands:
        for variable, value in variables.items():
            command = command.replace(f"${variable}", value)
        before, words = split(here(command, url))
        if words:
            run(words, before, url)
        else:
            variables |= before


@pytest.mark.parametrize("block", CHECKED, ids=name)
def test_commands_that_are_not_run_are_well_formed(block: Block, reader: Path) -> None:
    for command in block.commands:
        settings, words = split(command)
        check([word for word in words if word != "&&"])
        check_settings(settings)


@pytest.mark.parametrize("block", PYTHON, ids=name)
def test_programs_run(block: Block, url: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(here(block.text, url), str(block.page), "exec")
    if block.reason is None:
        exec(code, {"__name__": "__main__", "files": ["photo.jpg"]})  # noqa: S102  # what a page shows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_sentences_have_options_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for command in re.findall(r"`rcnn ([a-z][^`]*)`", text):
        found = called(command.replace("[", "").replace("]", "").split())
        assert {word for word in found.words if re.match("--?[a-z]", word)} <= {*found.options, "--help"}, (
            command
        )


def test_cards_of_the_pages_are_cards(tmp_path: Path) -> None:
    for block in (block for block in blocks("toml") if "architecture" in block.text):
        (tmp_path / "card.toml").write_text(block.text)
        read_card(tmp_path / "card.toml")


def test_every_command_of_rcnn_is_listed() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    for command in cli.app.registered_commands:
        assert f"| `rcnn {command.name}` |" in page, command.name
