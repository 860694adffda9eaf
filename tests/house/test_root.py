"""The root of the repository holds what it is known to hold: a test or an example wrote files there."""

import shutil
import subprocess

import pytest

from tests.house.rules import ROOT

KNOWN = {
    *(".ci", ".dockerignore", ".editorconfig", ".gitignore"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("Dockerfile", "docker-compose.gpu.yml", "docker-compose.yml"),
    *("Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml", "schemathesis.toml"),
    *("app", "bench", "client", "docker", "docs", "examples", "models", "samples", "tests"),
}


def test_the_root_has_no_stray_files() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = {path.partition("/")[0] for path in done.stdout.split("\0") if path}
    assert found - KNOWN == set(), "move it into a folder, or add it to KNOWN"
    assert KNOWN - found == set(), "take it out of KNOWN"
