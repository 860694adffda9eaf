"""The command line: help, usage errors, `models`, `settings` and `serve`."""

import logging
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console
from typer.main import get_command

from app import cli
from app.commands.arguments import DiagnoseArguments, EvaluateArguments, QuantizeArguments, TrainArguments
from app.commands.detect.arguments import DetectArguments
from app.commands.help import EXAMPLES, GROUP_OF
from app.commands.import_arguments import ImportArguments
from app.settings.settings import Settings
from app.settings.table import settings_markdown, settings_table
from models.zoo.catalogue import catalogue
from tests.support.data.cards import write_card
from tests.support.process import python
from tests.support.rcnn import rcnn

# -- the program ---------------------------------------------------------------------------------------------


def test_help_comes_without_heavy_imports() -> None:
    """Started as torchrun starts it: by module."""
    heavy = ("torch", "numpy", "pydantic", "httpx", "fastapi", "PIL", "rcnn_client")
    program = (
        "import runpy, sys\nsys.argv = ['rcnn', '--help']\n"
        "try:\n    runpy.run_module('app.cli', run_name='__main__')\n"
        f"finally:\n    print('loaded:', [name for name in {heavy} if name in sys.modules])"
    )
    done = python(program)
    assert done.returncode == 0
    assert "Usage: rcnn" in done.stdout
    assert "loaded: []" in done.stdout
    for command in ("serve", "detect", "models", "settings"):
        assert re.search(rf"\b{command}\b", done.stdout)


@pytest.mark.parametrize(
    "command", ["serve", "detect", "train", "evaluate", "diagnose", "import", "models", "settings", "doctor"]
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(command: str, flag: str) -> None:
    ran = rcnn(command, flag)
    assert ran.code == 0
    assert "Usage: rcnn " + command in ran.out
    assert command in ("models", "settings") or "Exit codes: 0" in " ".join(ran.out.split())


def test_the_version_is_shown() -> None:
    assert rcnn("--version").out == rcnn("-V").out == f"rcnn-serve {metadata.version('rcnn-serve')}\n"


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_of_the_help_is_a_command(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data.zip", "photo.jpg", "model_final.pth", "config.yaml"):
        (tmp_path / name).touch()
    for name in ("data", "photos"):
        (tmp_path / name).mkdir()
    command, words = get_command(cli.app), shlex.split(example.partition(" > ")[0])[1:]
    path = words[: 1 + (words[0] in ("bench", "captures"))]
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]  # a group, up to the last
    assert command.make_context(path[-1], words[len(path) :]).params
    assert example in rcnn(*path, "--help").out


@pytest.mark.parametrize("command", ["", *EXAMPLES])
def test_help_fits_a_terminal_of_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    group = ["bench"] if command in ("lineage", "load") else []
    shown = rcnn(*group, *command.split(), "--help").out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert not command or "Examples:" in shown


def test_all_commands_have_the_same_bar() -> None:
    commands = Path(cli.__file__).parent / "commands"
    own = [
        path.name
        for path in commands.rglob("*.py")
        if re.search(r"\bProgress\(\*|\bProgress\(console", path.read_text())
    ]
    assert own == ["progress.py"]


def test_options_of_the_help_are_in_groups() -> None:
    shown = rcnn("train", "--help").out
    for group in ("Data", "Augmentation", "Learning", "Network", "Output"):
        assert f"─ {group} ─" in shown
    learning = (TrainArguments, EvaluateArguments, DiagnoseArguments, QuantizeArguments)
    commands = (DetectArguments, ImportArguments, *learning)
    options = {field.name for command in commands for field in fields(command)}
    assert options >= GROUP_OF.keys(), "a group has an option that no command has"


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["detect"], ["detect", "none.png"], ["serve", "--port", "ten"], ["models", "--yaml"]],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    ran = rcnn(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: rcnn" in ran.err


@pytest.mark.parametrize(("level", "traced"), [("info", False), ("debug", True), ("nonsense", False)])
def test_an_unexpected_error_is_a_line_and_a_hint(level: str, traced: bool) -> None:
    @cli.app.command("stumble")
    def stumble() -> None:
        raise RuntimeError("over a stone")

    ran = rcnn("stumble", log_level=level)
    cli.app.registered_commands.pop()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("rcnn: unexpected error: RuntimeError: over a stone\n")
    assert ("Traceback" in ran.err) == traced
    assert ("RCNN_LOG_LEVEL=debug" in ran.err) != traced


@pytest.mark.parametrize("command", ["evaluate", "diagnose", "train", "quantize"])
def test_a_plain_install_lacks_the_extra(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    arguments: dict[str, list[object]] = {
        "train": [tmp_path, "--out", tmp_path / "run"],
        "quantize": ["--model", "shapes", "--images", tmp_path],
    }
    ran = rcnn(command, *arguments.get(command, [tmp_path]))
    extra = "quantize" if command == "quantize" else "train"
    advice = f"faster_coco_eval is missing; install it with: pip install 'rcnn-serve[{extra}]'"
    assert (ran.code, ran.out, ran.err) == (1, "", f"rcnn: {advice}\n")


# -- models, settings ----------------------------------------------------------------------------------------


def test_models_lists_the_catalogue(tmp_path: Path) -> None:
    write_card(tmp_path, labels=["background", "one", "two"])
    assert f"{tmp_path / 'mine.safetensors'} is missing" in rcnn("models", model_dir=tmp_path).out
    (tmp_path / "mine.safetensors").touch()
    ran = rcnn("models", model_dir=tmp_path, cache_dir=tmp_path / "cache")
    table, _, reasons = ran.out.partition("\n\n")
    rows = {line.split()[0]: line.split() for line in table.splitlines()[1:]}
    assert ran.code == 0
    assert set(rows) == set(catalogue(tmp_path))
    assert rows["coco-r50-fpn"] == ["coco-r50-fpn", "resnet50_fpn", "80", "0.370", "torchvision", "fp32"]
    assert rows["mine"] == ["mine", "small", "2", "mine.safetensors", "fp32"]
    assert "mine: fp32: fp32 is exact; bf16: its AP is not recorded; int8: it has no artefact" in reasons
    listed = rcnn("models", "--json").json
    assert all(card.pop("auto_on_cpu")["reason"] for card in listed)
    assert listed == [card.model_dump(mode="json") for card in catalogue(None).values()]
    assert "path" not in listed[0]


def test_models_names_the_fault_of_a_card(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\n')
    ran = rcnn("models", model_dir=tmp_path)
    assert re.fullmatch(r"rcnn: .*mine\.toml: architecture: this key is required.*\n", ran.err)
    assert (ran.code, ran.out) == (0, rcnn("models").out), "the other cards are listed"


def test_settings_are_a_table_or_the_markdown_of_the_readme() -> None:
    broken = {"port": "a broken setting must not hide the table that explains it"}
    table, markdown = rcnn("settings", **broken), rcnn("settings", "--markdown", **broken)
    assert table.code == markdown.code == 0
    assert markdown.out == settings_markdown()
    for row in settings_table():
        assert row.name in table.out
        assert row.default in table.out
    assert rcnn("settings", "--json", **broken).json == [asdict(row) for row in settings_table()]
    assert rcnn("settings", "--json", "--env").code == 2


def test_settings_are_read_at_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.commands.settings.open_console", lambda: Console(width=80))
    shown = rcnn("settings").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert len(shown.splitlines()) < 6 * len(settings_table())


def test_settings_are_a_file_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    before, lines = Settings(), rcnn("settings", "--env").out.splitlines()
    assert "#RCNN_PORT=8000" in lines
    assert "#RCNN_MODEL_DIR=" in lines
    assert all(line.startswith("#") or not line for line in lines), "a file of defaults changes nothing"
    for line in lines:
        if line.startswith("#RCNN_"):
            name, _, value = line.removeprefix("#").partition("=")
            if value:
                monkeypatch.setenv(name, value)
    assert Settings() == before


def test_a_broken_setting_is_named(image: Path) -> None:
    ran = rcnn("detect", image, max_pixles=1)
    assert (ran.code, ran.out) == (1, "")
    assert "RCNN_MAX_PIXLES is not a setting, did you mean RCNN_MAX_PIXELS?" in ran.err


# -- serve ---------------------------------------------------------------------------------------------------


@pytest.fixture
def _logging() -> Iterator[None]:
    """Undo what the start of a server does to the loggers of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging")
def test_a_server_that_cannot_start_is_1_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken = rcnn("serve", "--port", port)
    broken = rcnn("serve", "--port", 70000)
    unknown = rcnn("serve", "--port", 0, "--model", "nonesuch")
    for ran, reason in (
        (taken, f"cannot listen on 127.0.0.1:{port}"),
        (broken, r"RCNN_PORT: .*0 to 65535"),
        (unknown, "unknown model 'nonesuch'; choose one of"),
    ):
        assert (ran.code, ran.out) == (1, "")
        assert re.search(reason, ran.err)
        assert "Traceback" not in ran.err
