"""Certificates for 127.0.0.1 and localhost that sign themselves, made by the program openssl."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a server that uses them."""
        return {"tls_cert": str(self.cert), "tls_key": str(self.key)}

    @property
    def trusting(self) -> ssl.SSLContext:
        """The context of a client that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_pair(folder: Path, name: str = "tls") -> Pair:
    """Write a new certificate and its key."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", str(pair.key), "-out", str(pair.cert)),
    )
    return pair


def openssl(*arguments: str) -> None:
    """Run openssl."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
