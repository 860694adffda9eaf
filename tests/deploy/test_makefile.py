"""The Makefile, the tested versions and CI."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = ("Makefile", "pyproject.toml", "client/pyproject.toml", "constraints.txt")
TARGETS = (
    *("install", "serve", "check", "test", "test-fast", "coverage", "bench", "demo-model"),
    *("test-gpu", "bench-gpu", "test-ray", "lock", "sbom", "audit", "fuzz"),
)


# --- Makefile, versions, CI


def test_make_lists_its_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert set(TARGETS) <= set(re.findall(r"^(\S+) +\S", done.stdout, flags=re.MULTILINE))


def test_make_test_gpu_runs_every_test_of_the_cuda_path() -> None:
    """Also those that run with stand-ins elsewhere; and no test with the mark is in another file."""
    done = subprocess.run(["make", "-n", "test-gpu"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_cuda*.py"))
    assert sorted(re.findall(r"tests/\S+", done.stdout)) == files
    assert "-m 'gpu or not gpu'" in done.stdout
    marked = [path for path in ROOT.glob("tests/**/test_*.py") if "pytest.mark.gpu" in path.read_text()]
    assert {str(path.relative_to(ROOT)) for path in marked} - {"tests/deploy/test_makefile.py"} <= set(files)


def needs_install(folder: Path, *target: str) -> bool:
    program = ["make", "--question", *(target or ["install"])]
    done = subprocess.run(program, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 1


def test_make_installs_again_only_when_the_dependencies_changed(tmp_path: Path) -> None:
    for name in PROJECT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1000, 1000))
    assert needs_install(tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".runtime-cpu").touch()
    assert not needs_install(tmp_path, ".venv/.runtime-cpu", "EXTRAS=cpu")
    assert needs_install(tmp_path, ".venv/.runtime-cpu-video", "EXTRAS=cpu,video")
    assert needs_install(tmp_path)
    (tmp_path / ".venv" / ".installed").touch()
    assert not needs_install(tmp_path)
    os.utime(tmp_path / ".venv" / ".installed", (2000, 2000))
    os.utime(tmp_path / "constraints.txt", (3000, 3000))
    assert needs_install(tmp_path)


def steps(*arguments: str) -> list[str]:
    """The pip calls of a make run."""
    program = ["make", "-n", "VENV=/nowhere", *arguments]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(r"-m pip (install .*)", done.stdout)


def test_make_serve_installs_what_serves_and_no_developer_s_tools() -> None:
    [serve] = steps("serve", "EXTRAS=cpu")
    test, trackers = steps("test")
    assert serve.endswith("-e ./client -e '.[cpu]'")
    assert test.endswith("-e ./client -e '.[dev]'")
    assert trackers.endswith("-c constraints.txt --no-deps trackers")
    [more] = steps("serve", "EXTRAS=cpu,video")
    assert more.endswith("-e ./client -e '.[cpu,video]'")
    torch, service = steps("serve", "EXTRAS=", "TORCH_INDEX_URL=file:///cpu")
    assert torch.endswith("-c constraints.txt -i file:///cpu torch torchvision")
    assert service.endswith("-e ./client -e '.'")


def test_make_names_the_python_it_needs(tmp_path: Path) -> None:
    for name in PROJECT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    old = tmp_path / "old-python"
    pretend = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$@"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is 3.9" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_tested_versions_are_allowed_ones_and_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        assert name == project["name"] or requirement.specifier.contains(pinned[name]), name


def test_no_file_names_a_package_index() -> None:
    for name in (*PROJECT, ".ci/run", "Dockerfile"):
        text = (ROOT / name).read_text()
        assert "index-url" not in text, name
        assert "pypi" not in text.lower(), name


def test_ci_runs_the_same_commands() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().rstrip().endswith("make check coverage fuzz MINUTES=0.5 SEED=1")
