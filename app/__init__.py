"""The service: Faster R-CNN behind HTTP. Imports no torch; it talks to models/ through plain values."""

from importlib import metadata


def version() -> str:
    """The version of the installed distribution, as pip knows it."""
    return metadata.version("rcnn-serve")
