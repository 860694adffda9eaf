"""The settings of access: keys."""

import pytest
from pydantic import ValidationError

from app.settings.settings import Settings, explain


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The message for a user who sets these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return explain(caught.value)


def test_keys_are_split_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_API_KEYS", " alpha-key , beta-key ")
    settings = Settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["alpha-key", "beta-key"]
    assert "alpha-key" not in f"{settings} {settings!r} {settings.model_dump_json()}"
    monkeypatch.setenv("RCNN_API_KEYS", "alpha-key,,")
    monkeypatch.setenv("RCNN_MODLE", "shapes")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "alpha-key" not in f"{caught.value} {explain(caught.value)}"


def test_keys_that_load_models_are_no_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCNN_ADMIN_KEYS", "")  # as a compose file leaves it: off
    assert Settings().admin_keys == ()
    text = refusal(monkeypatch, RCNN_API_KEYS="alpha-key,beta-key", RCNN_ADMIN_KEYS="beta-key")
    assert text.startswith("RCNN_ADMIN_KEYS: one of them is in RCNN_API_KEYS too")
    assert "beta-key" not in text
    assert "a key is blank" in refusal(monkeypatch, RCNN_API_KEYS="alpha-key", RCNN_ADMIN_KEYS="chief,,")
