"""mkdocs.yml: every page is in the navigation; the site builds without a warning and without other hosts."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.house.doc_tables import DOCS
from tests.support.served import ROOT

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages_of(navigation: Any) -> Iterator[str]:
    """Every page below a part of the navigation."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for part in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from pages_of(part)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = sorted(pages_of(CONFIG["nav"]))
    assert listed == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stderr
    pages = list((tmp_path / CONFIG["site_dir"]).rglob("*.html"))
    assert len(pages) >= len(list(pages_of(CONFIG["nav"])))
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text())
        assert not [tag for tag in tags if re.search(r"\b(?:src|href)=[\"']?(?:https?:)?//", tag)], page
