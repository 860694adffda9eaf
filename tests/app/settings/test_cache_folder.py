"""RCNN_CACHE_DIR where it is not set and the user has no home, or one that cannot be written."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from app.settings.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder that is to be used."""
    monkeypatch.delenv("RCNN_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"rcnn-serve-{os.getuid()}"


def test_a_home_that_is_not_there_yet_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "new" / "home"))
    settings = Settings()
    assert settings.cache_dir == tmp_path / "new" / "home" / ".cache" / "rcnn-serve"
    assert settings.warnings == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["/dev/null", "{file}/home"])
def test_a_home_that_cannot_be_written_is_a_warning(
    home: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.with_name("file")
    file.touch()
    monkeypatch.setenv("HOME", home.format(file=file))
    settings = Settings()
    assert settings.cache_dir == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    [warning] = settings.warnings
    assert warning.startswith(f"fetched weights go to {folder}, as ")
    assert "set RCNN_CACHE_DIR" in warning
    assert Settings().cache_dir == folder  # weights are fetched once


def test_a_user_without_a_home_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert Settings().cache_dir == folder
    assert "no home folder" in Settings().warnings[0]
    monkeypatch.setenv("RCNN_CACHE_DIR", "/srv/cache")
    assert (Settings().cache_dir, Settings().warnings) == (Path("/srv/cache"), ())


def test_a_temporary_folder_of_others_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    folder.mkdir()
    folder.chmod(0o777)
    chosen = Settings().cache_dir
    assert chosen != folder
    assert chosen.stat().st_mode & 0o077 == 0
