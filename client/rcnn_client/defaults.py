"""The service's address and key where the caller gives none: RCNN_URL and RCNN_API_KEY of the environment."""

import os

URL = "http://127.0.0.1:8000"


def url(given: str | None) -> str:
    """The address that is given, else RCNN_URL, else that of `rcnn serve` on this machine."""
    return (os.environ.get("RCNN_URL") or URL) if given is None else given


def api_key(given: str | None) -> str | None:
    """The key that is given, else RCNN_API_KEY; an empty one is none."""
    return (os.environ.get("RCNN_API_KEY") if given is None else given) or None
