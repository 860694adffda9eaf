"""The README tells the truth: its tables are generated, its commands exist, its example was answered."""

import json
import re
import shlex

import pytest

from app.errors import errors_markdown
from app.settings.table import settings_markdown
from app.telemetry.metrics import metrics_markdown
from models.zoo.catalogue import catalogue
from tests.models.shapes.test_shapes import iou
from tests.support.served import ROOT

README = (ROOT / "README.md").read_text()
TABLES = {"errors": errors_markdown, "settings": settings_markdown, "metrics": metrics_markdown}


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_are_those_of_the_code(name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README.md has no table between <!-- {name} --> and <!-- /{name} -->"
    assert found[1].strip() == TABLES[name]().strip()


def commands() -> list[str]:
    """Every line that the README asks a reader to type."""
    lines = [
        line
        for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    ]
    return [line.removeprefix("$ ").split("   ")[0] for line in lines if line.startswith("$ ")]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [words[1] for words in map(shlex.split, commands()) if words[0] == "make" and len(words) > 1]
    targets += re.findall(r"`make ([a-z-]+)`", README)
    assert {"serve", "test", "demo-model"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_files_and_modules_of_the_readme_exist() -> None:
    names = set(re.findall(r"(?:samples|docker|models|tests|bench)/[\w./-]*\w", README))
    names |= {name.replace(".", "/") + ".py" for name in re.findall(r"-m ((?:models|bench)\.[\w.]+)", README)}
    assert len(names) >= 4
    for name in names:
        assert (ROOT / name).exists(), name


def test_every_model_of_the_zoo_is_listed() -> None:
    for name in catalogue(None):
        assert f"| `{name}` |" in README


def test_the_example_answer_is_that_of_the_sample() -> None:
    block = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert block
    answer = json.loads(block[1])
    truth = json.loads((ROOT / "samples/shapes-1.json").read_text())
    assert sorted(answer["names"]) == sorted(truth["names"])
    assert answer["image"] == truth["image"]
    for name, box in zip(truth["names"], truth["boxes"], strict=True):
        assert any(
            name == n and iou(box, b) > 0.8 for n, b in zip(answer["names"], answer["boxes"], strict=True)
        )


def test_the_changelog_has_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
