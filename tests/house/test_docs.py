"""README and docs/ are true: generated tables, existing files and links, an answered example."""

import json
import re
from pathlib import Path

import pytest

from app.schemas.options import DetectQuery, StreamQuery
from models.zoo.catalogue import catalogue
from tests.docs.commands import PAGES
from tests.house.doc_tables import DOCS, TABLES, table_pattern
from tests.models.shapes.test_shapes import iou
from tests.support.served import ROOT

README = (ROOT / "README.md").read_text()
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_are_those_of_the_code(name: str) -> None:
    page, table = TABLES[name]
    found = table_pattern(name).search((DOCS / page).read_text())
    assert found, f"docs/{page} has no table between <!-- {name} --> and <!-- /{name} -->"
    assert found[0].strip() == table().strip(), "python -m tests.house.doc_tables writes it again"


def test_make_targets_in_sentences_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_files_and_modules_of_the_pages_exist() -> None:
    names = set(re.findall(r"(?<![\w/.-])(?:samples|docker|models|tests|bench|app)/[\w./-]*\w", TEXT))
    modules = re.findall(r"(?:-m |serve run )((?:models|bench|app)\.[\w.]+)", TEXT)
    names |= {name.replace(".", "/") for name in modules}
    assert len(names) >= 4
    for name in names:
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        slugs = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs, f"{link}#{anchor}"


def test_every_option_of_a_request_is_listed() -> None:
    page = (DOCS / "options.md").read_text() + (DOCS / "streams.md").read_text()
    for name in {**DetectQuery.model_fields, **StreamQuery.model_fields}:
        assert f"`{name}`" in page, name


def test_every_model_of_the_zoo_is_listed() -> None:
    for name in catalogue(None):
        assert f"| `{name}` |" in TEXT


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


def test_readme_is_short() -> None:
    assert README.count("\n") <= 150
    assert len(README.encode()) <= 12 * 1024
