"""The commands and programs that the pages ask a reader to type, and how they are run or checked.

A block is run. Above one that is only checked stands `<!-- only checked: REASON -->` in the page.
"""

import re
import shlex
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
import yaml

from app import cli
from tests.support.served import ROOT

OUTSIDE_DOCS = ("README.md", "CONTRIBUTING.md", "client/README.md", "docker/kubernetes/README.md")
PAGES = [
    *(ROOT / name for name in OUTSIDE_DOCS),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
BLOCK = re.compile(
    r"(?:<!-- only checked: (?P<reason>[^\n]+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S
)
EXTRAS = re.compile(r"(rcnn-serve|\./client|\.)\[([\w,]+)\]")


@dataclass(frozen=True)
class Block:
    """A block of code of a page; `reason` says why it is only checked, None for one that is run."""

    page: Path
    kind: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[str]:
        """What follows the prompts, without the comments."""
        lines = [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]
        return [re.split(r" {2,}#", line)[0].rstrip() for line in lines]


def blocks(*kinds: str) -> list[Block]:
    """The blocks of these kinds on all pages."""
    found = [
        Block(page, match["kind"], match["text"], match["reason"])
        for page in PAGES
        for match in BLOCK.finditer(page.read_text())
    ]
    return [block for block in found if block.kind in kinds]


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables in front of a command, and its words."""
    words = shlex.split(command)
    first = next((at for at, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return dict(word.split("=", 1) for word in words[:first]), words[first:]


@dataclass(frozen=True)
class Called:
    """A command of `rcnn`, and the words after its name."""

    command: typer.core.TyperCommand
    words: list[str]

    @property
    def options(self) -> set[str]:
        """Its options."""
        return {
            name for parameter in self.command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }


def called(words: list[str]) -> Called:
    """The command that these words after `rcnn` call."""
    command: Any = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        assert words, f"{command.name} needs the name of a command"
        assert words[0] in command.commands, f"rcnn has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return Called(command, words)


def check_rcnn(words: list[str]) -> None:
    """Raises what `rcnn` says against the words; the files that they name are made in this folder."""
    assert not Path.cwd().is_relative_to(ROOT), "change to an empty folder: files are made in this one"
    if words[0].startswith("-"):
        return
    found = called(words)
    for word in found.words:
        place = Path(word)
        if not (word.startswith("-") or place.exists() or "*" in word):
            (place.parent if place.suffix else place).mkdir(parents=True, exist_ok=True)
            place.touch() if place.suffix else None
    found.command.make_context(words[0], list(found.words))


def check_pip(words: list[str]) -> None:
    """The extras of the distributions exist."""
    for distribution, names in EXTRAS.findall(" ".join(words)):
        file = ROOT / ("client/pyproject.toml" if distribution == "./client" else "pyproject.toml")
        extras = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
        assert set(names.split(",")) <= set(extras), names


def check_compose(words: list[str]) -> None:
    """The files and profiles of a `docker compose` exist."""
    files = [after for word, after in pairwise(words) if word == "-f"]
    services: dict[str, Any] = {}
    for name in files or ["docker-compose.yml"]:
        services |= yaml.safe_load((ROOT / name).read_text())["services"]
    for word, profile in pairwise(words):
        if word == "--profile":
            assert any(profile in service.get("profiles", ()) for service in services.values())


def check_module(words: list[str]) -> None:
    """The module of a `python -m` exists and knows the options."""
    name = words[words.index("-m") + 1].replace(".", "/")
    file = ROOT / f"{name}.py"
    assert file.exists() or (ROOT / name / "__init__.py").exists(), name
    known = "\n".join(path.read_text() for path in (ROOT / name.split("/")[0]).rglob("*.py"))
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in known or f'"{option[2:]}"' in known, option


def check_kubectl(words: list[str]) -> None:
    """The folder or file of a `kubectl apply` exists."""
    where = ROOT / words[-1]
    assert where.is_file() or (where / "kustomization.yaml").is_file(), where


def check_ray(words: list[str]) -> None:
    """What a `serve run` or `serve deploy` names exists."""
    if words[1] == "deploy":
        assert (ROOT / words[2]).is_file()
    else:
        module, function = words[2].split(":")
        assert f"def {function}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()


def check_make(words: list[str]) -> None:
    """The target exists."""
    target = next((word for word in words[1:] if "=" not in word), "help")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def check(words: list[str]) -> None:
    """Raises what is wrong with a command that is not run."""
    match words[0]:
        case "rcnn":
            check_rcnn(words[1:])
        case "make":
            check_make(words)
        case "pip" | "uv" | "pipx":
            check_pip(words)
        case "docker" if words[1] == "compose":
            check_compose(words)
        case "kubectl":
            check_kubectl(words)
        case "serve":
            check_ray(words)
        case "python" | ".venv/bin/python" | "torchrun" if "-m" in words and "http.server" not in words:
            check_module(words)
        case "systemctl" | "useradd" | "python3":
            pass
        case (
            "git"
            | "docker"
            | "curl"
            | "grpcurl"
            | "nuctl"
            | "cvat-cli"
            | "python"
            | "bash"
            | "uvicorn"
            | "jupyter"
        ):
            ours = [word for word in words if word.startswith("examples/")]
            assert all((ROOT / word).exists() for word in ours), words
        case program:
            raise AssertionError(f"nothing here checks {program}")
