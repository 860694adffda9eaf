"""The paths that orchestrators and balancers ask every few seconds."""

import re

PATHS = (
    *("/health", "/health/live", "/health/ready", "/healthz", "/livez", "/readyz", "/metrics"),
    *("/ping", "/v2/health/live", "/v2/health/ready"),
)
VERTEX = re.compile(r"/v1/endpoints/[^/]+/deployedModels/[^/:]+")


class Probes:
    """The paths of probes, with the one that a hosting platform has told, if any."""

    def __init__(self, told: str | None = None) -> None:
        self._paths = {*PATHS, told}

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and (path in self._paths or VERTEX.fullmatch(path) is not None)
