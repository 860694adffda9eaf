"""RCNN_API_KEYS_FILE: keys with names, read again when the file has changed."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import api_keys
from app.settings.key_file import read_key_file
from app.settings.settings import Settings
from tests.support.served import Serve, Served

FILE = """# of the team
camera-1=alpha-key
beta-key   # no comment: a key has no spaces

=gamma=
c2VjcmV0==
dots.and-more_=d=e=f
"""


async def status(served: Served, key: str) -> int:
    headers = {"X-API-Key": key} if key else {}
    return (await served.client.get("/models", headers=headers)).status_code


def test_a_line_is_a_key_or_a_name_and_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(FILE.replace("   # no comment: a key has no spaces", ""))
    assert read_key_file(path) == {
        "alpha-key": "camera-1",
        "beta-key": "",
        "=gamma=": "",
        "c2VjcmV0==": "",
        "d=e=f": "dots.and-more_",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FILE, "line 3: the key has a space"),
        ("name=schlüssel", "line 1: the key has a space or a character outside ASCII"),
        ("# nothing\n\n", "has no key"),
        (None, "No such file"),
        ("a=chief-key", "is in RCNN_ADMIN_KEYS too"),
    ],
)
def test_a_wrong_file_ends_the_start(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings(api_keys_file=str(path), admin_keys="chief-key")
    assert "chief-key" not in str(caught.value)


async def test_the_file_is_read_again_when_it_has_changed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "LOOK_SECONDS", 0.0)
    path = tmp_path / "keys"
    path.write_text("camera-1=alpha-key\n")
    async with serve(api_keys_file=str(path), api_keys="fixed-key", admin_keys="chief-key") as served:
        keys = ("", "alpha-key", "fixed-key", "other-key", "chief-key")
        assert [await status(served, key) for key in keys] == [401, 200, 200, 401, 401]
        path.write_text("camera-1=other-key\n# longer\n")
        assert [await status(served, key) for key in keys] == [401, 401, 200, 200, 401]
        for wrong in ("", "a=chief-key", "two words"):
            path.write_text(wrong)
            assert [await status(served, key) for key in keys] == [401, 401, 200, 200, 401]
            assert "the keys of before stay" in caplog.text
            caplog.clear()
        path.unlink()
        assert await status(served, "other-key") == 200


async def test_the_name_of_a_key_is_in_the_log_and_the_metrics_and_the_key_is_not(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text("camera-1=alpha-key\nbeta-key\n")
    caplog.set_level(logging.INFO)
    async with serve(api_keys_file=str(path)) as served:
        for key in ("alpha-key", "alpha-key", "beta-key", "wrong-key"):
            await status(served, key)
        assert await served.metric("rcnn_key_requests_total", key="camera-1") == 2
        assert "key=camera-1" in caplog.text
        assert "key=-" not in caplog.text
        for secret in ("alpha-key", "beta-key", "wrong-key"):
            assert secret not in caplog.text
