"""The settings of several models: their names, their number, and other names for them."""

import pytest
from pydantic import ValidationError

from app.settings.settings import Settings, explain


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RCNN_MODEL", "RCNN_MAX_LOADED_MODELS", "RCNN_LOAD_ON_REQUEST", "RCNN_MODEL_ALIASES"):
        monkeypatch.delenv(name, raising=False)


def test_several_models_are_named_and_fit_into_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Settings().models, Settings().model_limit) == (("auto",), 1)
    monkeypatch.setenv("RCNN_MODEL", "a, b.toml,c")
    assert (Settings().models, Settings().model_limit) == (("a", "b.toml", "c"), 3)
    assert Settings(max_loaded_models=4, load_on_request=True).model_limit == 4
    monkeypatch.setenv("RCNN_MODEL_ALIASES", "coco/25=a, x=b=c")
    assert Settings().model_aliases == (("coco/25", "a"), ("x=b", "c"))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"RCNN_MODEL": "shapes,"}, "a name is empty"),
        ({"RCNN_MODEL": "shapes,shapes"}, "named twice"),
        ({"RCNN_MODEL": "a,b,c", "RCNN_MAX_LOADED_MODELS": "2"}, "names 3 models"),
        ({"RCNN_MAX_LOADED_MODELS": "65"}, "allowed: 0 to 64"),
        ({"RCNN_MODEL": "a,b", "RCNN_LOAD_ON_REQUEST": "true"}, "RCNN_MAX_LOADED_MODELS to more than 2"),
        ({"RCNN_MODEL_ALIASES": "coco"}, "comma-separated alias=model"),
        ({"RCNN_MODEL_ALIASES": "a=b,a=c"}, "an alias is given twice"),
    ],
)
def test_what_cannot_be_served_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert reason in explain(caught.value)
