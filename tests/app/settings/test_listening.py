"""The settings of TLS, and of where, when and how long the server listens."""

import pytest
from pydantic import ValidationError

from app.settings.settings import Settings, explain


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_cert": "a"}, "RCNN_TLS_CERT needs RCNN_TLS_KEY: set both for TLS, or none of them"),
        ({"tls_key": "a"}, "RCNN_TLS_KEY needs RCNN_TLS_CERT: set both for TLS, or none of them"),
        ({"linger_seconds": 601}, "(allowed: 0 to 600)"),
        ({"drain_seconds": "nan"}, "(allowed: 0 to 3600)"),
        ({"root_path": "/rcnn/"}, "(allowed: a path such as /rcnn, without a slash at its end)"),
        ({"listen": "never"}, "(allowed: start, ready)"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**settings)  # type: ignore[arg-type]  # wrong on purpose
    assert explain(refused.value).endswith(said)


def test_what_fits_is_taken() -> None:
    given: dict[str, object] = {
        "tls_cert": "a",
        "tls_key": "b",
        "linger_seconds": "2.5",
        "drain_seconds": 2.5,
    }
    settings = Settings(**given, listen="ready", root_path="/a/rcnn")  # type: ignore[arg-type]  # text, as of variables
    assert (str(settings.tls_key), settings.linger_seconds, settings.listen) == ("b", 2.5, "ready")
