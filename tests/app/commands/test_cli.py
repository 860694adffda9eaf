"""The command line: called as `rcnn` is, in this process; against a real detector, and the real program."""

import io
import json
import logging
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as pillow

from app import cli
from app.main import create_app
from app.settings.settings import Settings
from app.settings.table import settings_markdown, settings_table
from models.zoo.catalogue import catalogue
from models.zoo.weights import save_weights
from tests.support.fakes import picture
from tests.support.networks import LABELS, random_network
from tests.support.process import Program
from tests.support.served import ROOT, eventually

RCNN = (sys.executable, "-c", "from app.cli import main; main()")
CARD = """
name = "random"
architecture = "small"
weights = "file:random.safetensors"
labels = {labels}
score_threshold = 0.3
min_size = 128
max_size = 224
"""


@dataclass(frozen=True)
class Ran:
    """What a call of `rcnn` left: exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


Rcnn = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RCNN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def rcnn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rcnn:
    """Call `rcnn` with these arguments."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rcnn", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card of a small network with random weights, which finds many things."""
    folder = tmp_path_factory.mktemp("random")
    save_weights(random_network(), folder / "random.safetensors", half=False)
    path = folder / "random.toml"
    path.write_text(CARD.format(labels=list(LABELS)))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(picture())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them in a folder of its own, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.png").write_bytes(picture(64, 48))
    (folder / "a.JPG").write_bytes(picture(48, 64, "JPEG"))
    (folder / "deep" / "b.png").write_bytes(picture(80, 40))
    (folder / "notes.txt").write_text("no image")
    return folder


def url_of(program: Program) -> str:
    return f"http://127.0.0.1:{program.port}"


# -- the program ---------------------------------------------------------------------------------------------


def test_help_is_there_without_the_weight_of_torch() -> None:
    heavy = ("torch", "numpy", "pydantic", "httpx", "fastapi", "PIL")
    program = (
        "import sys\nfrom app.cli import main\nsys.argv = ['rcnn', '--help']\n"
        f"try:\n    main()\nfinally:\n    print('loaded:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "loaded: []" in done.stdout
    for command in ("serve", "detect", "models", "settings"):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_the_module_is_the_program_too() -> None:
    """torchrun starts modules, not programs."""
    command = [sys.executable, "-m", "app.cli", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Usage: rcnn" in done.stdout) == (0, True)


@pytest.mark.parametrize("command", ["serve", "detect", "models", "settings"])
def test_every_command_has_help(rcnn: Rcnn, command: str) -> None:
    for flag in ("--help", "-h"):
        ran = rcnn(command, flag)
        assert ran.code == 0
        assert "Usage: rcnn " + command in ran.out
    assert command not in ("serve", "detect") or "Exit codes: 0" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["detect"], ["detect", "none.png"], ["serve", "--port", "ten"], ["models", "--yaml"]],
)
def test_wrong_usage_is_2(rcnn: Rcnn, arguments: list[str]) -> None:
    ran = rcnn(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: rcnn" in ran.err


@pytest.mark.parametrize(
    ("level", "traced"),
    [("info", False), ("debug", True), ("nonsense", False)],
    ids=["info", "debug", "broken"],
)
def test_an_unexpected_error_is_a_line_and_a_hint(
    rcnn: Rcnn, monkeypatch: pytest.MonkeyPatch, level: str, traced: bool
) -> None:
    @cli.app.command("stumble")
    def stumble() -> None:
        raise RuntimeError("over a stone")

    monkeypatch.setenv("RCNN_LOG_LEVEL", level)
    ran = rcnn("stumble")
    cli.app.registered_commands.pop()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("rcnn: unexpected error: RuntimeError: over a stone\n")
    assert ("Traceback" in ran.err) == traced
    assert ("RCNN_LOG_LEVEL=debug" in ran.err) != traced


# -- models, settings ----------------------------------------------------------------------------------------


def test_models_lists_the_catalogue(rcnn: Rcnn, card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_MODEL_DIR", str(card.parent))
    ran = rcnn("models")
    rows = {line.split()[0]: line.split() for line in ran.out.splitlines()[1:]}
    assert ran.code == 0
    assert set(rows) == set(catalogue(card.parent))
    assert rows["coco-r50-fpn"] == ["coco-r50-fpn", "resnet50_fpn", "80", "0.370", "torchvision"]
    assert rows["random"] == ["random", "small", "4", "random.safetensors"]


def test_models_as_json_are_the_cards(rcnn: Rcnn) -> None:
    listed = json.loads(rcnn("models", "--json").out)
    assert listed == [card.model_dump(mode="json") for card in catalogue(None).values()]
    assert "path" not in listed[0]


def test_models_says_what_is_wrong_with_a_card(
    rcnn: Rcnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n')
    monkeypatch.setenv("RCNN_MODEL_DIR", str(tmp_path))
    ran = rcnn("models")
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(r"rcnn: .*mine\.toml: architecture: this key is required.*\n", ran.err)


def test_a_model_without_its_weights_says_so(
    rcnn: Rcnn, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.toml").write_text(card.read_text())
    monkeypatch.setenv("RCNN_MODEL_DIR", str(tmp_path))
    assert f"{tmp_path / 'random.safetensors'} is missing" in rcnn("models").out


def test_settings_are_a_table_or_the_markdown_of_the_readme(
    rcnn: Rcnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCNN_PORT", "a broken setting must not hide the table that explains it")
    table, markdown = rcnn("settings"), rcnn("settings", "--markdown")
    assert table.code == markdown.code == 0
    assert markdown.out == settings_markdown()
    for row in settings_table():
        assert row.name in table.out
        assert row.default in table.out


def test_a_broken_setting_is_told(rcnn: Rcnn, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_MAX_PIXLES", "1")
    ran = rcnn("detect", image)
    assert (ran.code, ran.out) == (1, "")
    assert "RCNN_MAX_PIXLES is not a setting, did you mean RCNN_MAX_PIXELS?" in ran.err


# -- detect, here --------------------------------------------------------------------------------------------


async def test_a_model_here_answers_as_the_service_does(rcnn: Rcnn, card: Path, image: Path) -> None:
    options = {"score_threshold": 0.4, "nms_threshold": 0.3, "max_detections": 7, "size": 160}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    here = rcnn("detect", image, "--model", card, "--json", "--classes", "one,3", "--classes", "TWO", *flags)
    app = create_app(Settings(model=str(card)))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "ok", "the service is ready")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            query = httpx.QueryParams(options | {"classes": "one,3,two"})
            there = (await client.post("/detect", params=query, files={"image": picture()})).json()
    assert here.code == 0
    [line] = here.lines
    assert line.pop("file") == str(image)
    assert len(line["boxes"]) == 7
    assert set(line["names"]) <= {"one", "two", "three"}
    assert set(line.pop("timings_ms")) == {"decode", "inference", "postprocess", "total"}
    np.testing.assert_allclose(line.pop("boxes"), there.pop("boxes"), atol=0.01)
    np.testing.assert_allclose(line.pop("scores"), there.pop("scores"), atol=1e-4)
    assert line == {name: there[name] for name in line}
    assert set(there) - set(line) == {"timings_ms", "request_id"}


async def test_tiles_here_are_those_of_the_service(rcnn: Rcnn, card: Path, tmp_path: Path) -> None:
    image, data = tmp_path / "large.png", picture(640, 400)
    image.write_bytes(data)
    options = {"tile": "256", "tile_overlap": 0.3, "size": 160, "max_detections": 50}
    flags = ("--tile", 256, "--tile-overlap", 0.3, "--size", 160, "--max-detections", 50)
    [here] = rcnn("detect", image, "--model", card, "--json", *flags).lines
    [whole] = rcnn("detect", image, "--model", card, "--json", *flags[4:]).lines
    [auto] = rcnn("detect", image, "--model", card, "--json", "--tile", "auto", *flags[4:]).lines
    app = create_app(Settings(model=str(card)))
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.state == "ok", "the service is ready")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            there = (await client.post("/detect", params=options, files={"image": data})).json()
    np.testing.assert_allclose(here["boxes"], there["boxes"], atol=0.01)
    assert (here["labels"], here["image"]) == (there["labels"], {"width": 640, "height": 400})
    assert set(here["timings_ms"]) == {"decode", "inference", "postprocess", "total"}
    assert here["boxes"] != whole["boxes"]
    assert auto["boxes"] != whole["boxes"]


def test_an_image_of_too_many_tiles_loses_no_other(rcnn: Rcnn, card: Path, folder: Path) -> None:
    (folder / "a.png").write_bytes(picture(700, 500))
    ran = rcnn("detect", folder, "--model", card, "--json", "--tile", 64)
    told = [line["error"]["detail"] if "error" in line else None for line in ran.lines]
    assert (ran.code, told[0], told[2:]) == (1, None, [None, None])
    assert "tiles of 64 px would cover 700 x 500 px; at most 64 may" in told[1]


def test_the_cards_defaults_hold_where_nothing_is_asked(rcnn: Rcnn, card: Path, image: Path) -> None:
    [line] = rcnn("detect", image, "--model", card, "--json").lines
    assert min(line["scores"]) >= 0.3
    assert (line["model"], line["image"]) == ("random", {"width": 64, "height": 48})


def test_a_model_here_names_its_classes_in_exports(
    rcnn: Rcnn, card: Path, image: Path, tmp_path: Path
) -> None:
    ran = rcnn("detect", image, "--model", card, "--format", "yolo", "--out", tmp_path / "labels")
    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / "labels" / "classes.txt").read_text().split() == ["one", "two", "three", "four"]
    lines = (tmp_path / "labels" / "image.txt").read_text().splitlines()
    [answer] = rcnn("detect", image, "--model", card, "--json").lines
    assert [int(line.split()[0]) + 1 for line in lines] == answer["labels"]


def test_an_unknown_class_is_wrong_usage(rcnn: Rcnn, card: Path, image: Path) -> None:
    ran = rcnn("detect", image, "--model", card, "--classes", "one,horse,0")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "rcnn: --classes: the model has no class 'horse'; it has one, two, three, four\n"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--score-threshold", 1.1),
        ("--nms-threshold", -1),
        ("--max-detections", 0),
        ("--size", 63),
        ("--size", 1334),
    ],
)
def test_an_option_out_of_range_is_wrong_usage(rcnn: Rcnn, image: Path, flag: str, value: float) -> None:
    ran = rcnn("detect", image, flag, value)
    assert ran.code == 2
    assert flag in ran.err


def test_a_model_that_cannot_be_loaded_is_told(rcnn: Rcnn, image: Path) -> None:
    ran = rcnn("detect", image, "--model", "nonesuch")
    assert (ran.code, ran.out) == (1, "")
    assert re.match(r"rcnn: unknown model 'nonesuch'; choose one of: .*coco-r50-fpn", ran.err)


def test_a_bad_image_fails_alone(rcnn: Rcnn, card: Path, image: Path, tmp_path: Path) -> None:
    bad, other = tmp_path / "bad.png", tmp_path / "other.png"
    bad.write_bytes(b"no image")
    other.write_bytes(picture(50, 50))
    ran = rcnn("detect", image, bad, other, "--model", card, "--json")
    assert ran.code == 1
    assert [line["file"] for line in ran.lines] == [str(image), str(bad), str(other)]
    assert ran.lines[1]["error"]["detail"]
    assert [set(line) >= {"boxes", "scores"} for line in ran.lines] == [True, False, True]
    assert ran.err.startswith(f"rcnn: {bad}: ")
    assert len(ran.err.splitlines()) == 1


def test_the_pixel_limit_of_the_settings_holds_here(
    rcnn: Rcnn, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(picture(100, 100))
    monkeypatch.setenv("RCNN_MAX_PIXELS", "9999")
    ran = rcnn("detect", large, "--model", card)
    assert ran.code == 1
    assert "9999" in ran.err


# -- detect, at a service ------------------------------------------------------------------------------------


def test_a_service_is_asked(rcnn: Rcnn, program: Program, image: Path) -> None:
    flags = ("--score-threshold", 0.2, "--classes", "square,kite", "--max-detections", 5)
    [line] = rcnn("detect", image, "--url", url_of(program), "--json", *flags).lines
    sent = httpx.post(
        f"{url_of(program)}/detect?score_threshold=0.2&classes=square,kite",
        files={"image": image.read_bytes()},
    ).json()
    assert line.pop("file") == str(image)
    assert line.pop("request_id") != sent.pop("request_id")
    assert set(line.pop("timings_ms")) == set(sent.pop("timings_ms"))
    assert line == sent


def test_a_table_is_for_people(rcnn: Rcnn, program: Program, image: Path) -> None:
    ran = rcnn("detect", image, "--url", url_of(program))
    head, columns, *rows = [line.split() for line in ran.out.splitlines()]
    assert ran.code == 0
    assert head[:5] == [str(image), "64x48", "·", "2", "objects"]
    assert columns == ["name", "score", "x1", "y1", "x2", "y2"]
    assert rows == [
        ["Square", "0.938", "8.0", "12.0", "32.0", "36.0"],
        ["disc", "0.750", "16.0", "12.0", "64.0", "24.0"],
    ]
    none = rcnn("detect", image, "--url", url_of(program), "--score-threshold", 1)
    assert re.fullmatch(r".*image\.png  64x48 · 0 objects · \d+ ms\n", none.out)


def test_folders_are_searched_and_files_taken_once(rcnn: Rcnn, program: Program, folder: Path) -> None:
    ran = rcnn("detect", folder / "b.png", folder, folder, "--url", url_of(program), "--json")
    files = [Path(line["file"]).relative_to(folder).as_posix() for line in ran.lines]
    assert files == ["b.png", "a.JPG", "deep/b.png"]
    assert (ran.code, ran.err) == (0, "")


def test_a_folder_without_images_is_wrong_usage(rcnn: Rcnn, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    ran = rcnn("detect", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert f"no image in {tmp_path}" in ran.err


def test_drawings_are_saved_and_overwrite_no_image(rcnn: Rcnn, program: Program, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert rcnn("detect", folder, "--url", url_of(program), "--save", folder).code == 0
    drawn = sorted(path.name for path in folder.iterdir() if path.is_file() and path not in before)
    assert drawn == ["a.png", "b-2.png", "b-3.png"]
    assert all(path.read_bytes() == content for path, content in before.items())
    with pillow.open(folder / "b-2.png") as picture, pillow.open(folder / "b.png") as original:
        assert (picture.format, picture.width / picture.height) == ("PNG", original.width / original.height)
        small = np.asarray(picture.convert("RGB").resize(original.size, pillow.Resampling.NEAREST), np.int64)
        difference = np.abs(small - np.asarray(original.convert("RGB"), np.int64)).sum(axis=2) > 0
    assert difference[12:36, 8:64].mean() > 0.05
    assert not difference[40:, :].any()


def test_a_new_folder_is_made_for_drawings(rcnn: Rcnn, program: Program, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "drawings"
    assert rcnn("detect", image, "--url", url_of(program), "--save", target).code == 0
    assert [path.name for path in target.iterdir()] == ["image.png"]


def test_a_folder_that_cannot_be_made_is_told(rcnn: Rcnn, program: Program, image: Path) -> None:
    ran = rcnn("detect", image, "--url", url_of(program), "--save", image / "drawings")
    assert (ran.code, ran.out) == (1, "")
    assert f"--save {image / 'drawings'}" in ran.err


def test_a_service_refuses_one_image_and_takes_the_others(rcnn: Rcnn, program: Program, folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"no image")
    ran = rcnn("detect", folder, "--url", url_of(program), "--json")
    assert ran.code == 1
    assert [line.get("error", {}).get("code") for line in ran.lines] == [None, "invalid_image", None, None]
    assert "(400 invalid_image)" in ran.err


def test_what_every_image_would_meet_ends_the_run(
    rcnn: Rcnn, start: Callable[..., Program], folder: Path
) -> None:
    program = start(api_keys="secret")
    program.logged("ready")
    url = ("--url", url_of(program))
    refused = rcnn("detect", folder, *url)
    wrong = rcnn("detect", folder, *url, "--api-key", "secret", "--classes", "horse")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "(401 unauthorized)" in refused.err
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert "horse" in wrong.err
    assert rcnn("detect", folder, *url, "--api-key", "secret").code == 0


def test_nobody_at_the_url(rcnn: Rcnn, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ran = rcnn("detect", folder, "--url", url)
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(rf"rcnn: no answer from {url}/health/live: .*\n", ran.err)
    wrong = rcnn("detect", folder, "--url", "127.0.0.1:8000")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--url: '127.0.0.1:8000' is no http URL" in wrong.err


def test_a_name_that_is_no_text_is_no_obstacle(rcnn: Rcnn, program: Program, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/[bold]\xff.png"))
    odd.write_bytes(picture())
    for flags in ((), ("--json",)):
        ran = rcnn("detect", odd, "--url", url_of(program), *flags)
        assert ran.code == 0
        assert "[bold]\ufffd.png" in ran.out
    odd.write_bytes(b"no image")
    assert "[bold]\ufffd.png: " in rcnn("detect", odd, "--url", url_of(program)).err


def on_a_terminal(*arguments: str, out_too: bool) -> tuple[str, str]:
    """What `rcnn` writes to a terminal, and to stdout where that is not the terminal but a pipe."""
    ours, theirs = pty.openpty()
    stdout = theirs if out_too else subprocess.PIPE
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*RCNN, *arguments], cwd=ROOT, env=environment, stdin=theirs, stdout=stdout, stderr=theirs
    )
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    seen = io.BytesIO()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(65536):
                seen.write(chunk)
        except OSError:  # the terminal has no other end any more
            pass
    assert process.returncode == 0, seen.getvalue().decode()
    return seen.getvalue().decode(), (out or b"").decode()


def test_a_bar_shows_on_a_terminal_and_stays_out_of_a_pipe(program: Program, folder: Path) -> None:
    flags = ("detect", str(folder), "--url", url_of(program), "--json")
    terminal, piped = on_a_terminal(*flags, out_too=False)
    assert "Detecting" in terminal
    assert "3/3" in terminal
    assert [json.loads(line)["model"] for line in piped.splitlines()] == ["fake"] * 3
    both, _ = on_a_terminal(*flags, out_too=True)
    assert "Detecting" in both
    assert both.count('"model": "fake"') == 3
    one, _ = on_a_terminal("detect", str(folder / "b.png"), "--url", url_of(program), out_too=True)
    assert "Detecting" not in one


# -- serve ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _logging() -> Iterator[None]:
    """Take back what starting a server does to the loggers of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging")
def test_a_port_that_is_taken_is_told(rcnn: Rcnn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ran = rcnn("serve", "--port", port)
    assert (ran.code, ran.out) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}" in ran.err
    assert "Traceback" not in ran.err


def test_serve_refuses_a_broken_setting() -> None:
    command = [*RCNN, "serve", "--port", "70000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"rcnn: RCNN_PORT: .*0 to 65535.*\n", done.stderr)


def test_a_service_serves_what_it_is_told_and_stops(card: Path, image: Path, rcnn: Rcnn) -> None:
    environment = os.environ | {"RCNN_PORT": "1", "RCNN_MODEL": "nonesuch", "RCNN_DEVICE": "cuda:9"}
    flags = ("serve", "--host", "127.0.0.1", "--port", "0", "--model", str(card), "--device", "cpu")
    process = subprocess.Popen([*RCNN, *flags], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        url = next(match[0] for line in lines if (match := re.search(r"http://[\d.:]+", line)))
        assert any("ready" in line for line in lines)
        assert rcnn("detect", image, "--url", url, "--json").lines[0]["model"] == "random"
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_model_that_cannot_be_served_ends_the_program() -> None:
    command = [*RCNN, "serve", "--port", "0", "--model", "nonesuch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "unknown model 'nonesuch'; choose one of" in done.stderr
    assert "Traceback" not in done.stderr
