"""The servers that are measured: how each is started and called, and what it needs installed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SERVICE = "rcnn-serve"


@dataclass(frozen=True)
class Peer:
    """A server: arguments after `python`, its route, the image's encoding, packages for a venv of its own."""

    name: str
    arguments: tuple[str, ...]
    path: str = "/detect"
    encoding: str = "raw"
    packages: tuple[str, ...] = ()
    engines: tuple[str, ...] = ("eager", "ours")
    unavailable: str = ""  # why it is never measured

    def command(self, venvs: Path, port: int) -> list[str]:
        """The command line that serves at the port."""
        python = str(venv_python(venvs, self.name)) if self.packages else sys.executable
        return [python, *(part.replace("{port}", str(port)) for part in self.arguments)]

    def missing(self, venvs: Path) -> str | None:
        """Why it cannot be started, or None."""
        if self.unavailable:
            return self.unavailable
        if not self.packages or venv_python(venvs, self.name).exists():
            return None
        note = failure_note(venvs, self.name)
        return f"not installed: {note.read_text() if note.exists() else 'run make bench-peers'}"


_BENTOML = ("-m", "bentoml", "serve", "bench.peers.with_bentoml:Detection", "--port", "{port}")
_TORCHSERVE = ("torchserve", "torch-model-archiver")

_NO_WHEEL = "not measured: no package of pip has the server"
_NO_MODEL = (
    "not measured: nvidia-pytriton 0.7.0 from pip loads no model with Python 3.11.7 (its stub has another)"
)

PEERS = (
    Peer(SERVICE, ("-c", "from app.cli import main; main()", "serve"), engines=("ours",)),
    Peer("fastapi", ("-m", "bench.peers.plain_fastapi")),
    Peer("litserve", ("-m", "bench.peers.with_litserve"), "/predict", "json", ("litserve",)),
    Peer("mosec", ("-m", "bench.peers.with_mosec"), "/inference", "raw", ("mosec",)),
    Peer("ray", ("-m", "bench.peers.with_ray"), "/detect", "raw", ("ray[serve]",)),
    Peer("bentoml", _BENTOML, "/detect", "multipart", ("bentoml",)),
    Peer("torchserve", ("-m", "bench.peers.with_torchserve"), "/predictions/detect", "raw", _TORCHSERVE),
    Peer("openvino-model-server", (), engines=("ours",), unavailable=_NO_WHEEL),
    Peer("triton", (), engines=("ours",), unavailable=_NO_MODEL),
)


def venv_python(venvs: Path, name: str) -> Path:
    """The interpreter of a peer's venv."""
    return (venvs / name / "bin" / "python").absolute()


def failure_note(venvs: Path, name: str) -> Path:
    """The file with the reason why the installation failed."""
    return venvs / f"{name}.failed.txt"


def select_peers(names: Sequence[str]) -> list[Peer]:
    """The peers of these names, in the catalogue's order. Raises SystemExit for an unknown name."""
    known = [peer.name for peer in PEERS]
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [peer for peer in PEERS if peer.name in names]
