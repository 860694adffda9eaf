"""Prints what the image installs with checked hashes, one requirement a line, for `make lock`.

Not torch and torchvision: their files differ by index (CPU, CUDA, ROCm), so no one list of hashes fits. What
they need beside CUDA's libraries is listed here, so that it is checked too.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("cpu", "grpc", "heif", "mqtt", "tracing", "video", "zstd")
OTHER_INDEX = ("torch>", "torchvision>")
OF_TORCH = ("jinja2", "networkx", "sympy")
TO_BUILD = ("setuptools>=77",)
SBOM = ["cyclonedx-bom>=7.0"]  # in an environment of its own that the image does not keep


def requirements() -> list[str]:
    """The requirements of the service with the image's extras, of the client, of torch, and of the build."""
    service = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
    extras = [text for name in EXTRAS for text in service["optional-dependencies"][name]]
    listed = [*service["dependencies"], *extras, *client["dependencies"], *OF_TORCH, *TO_BUILD]
    return [text for text in listed if not text.startswith(OTHER_INDEX)]


if __name__ == "__main__":
    print(*(SBOM if sys.argv[1:] == ["sbom"] else requirements()), sep="\n")
