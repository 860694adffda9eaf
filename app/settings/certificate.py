"""The certificate of RCNN_TLS_CERT and RCNN_TLS_KEY: read at the start, and again when a file has changed."""

import logging
import ssl
from pathlib import Path

CERTIFICATE, KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
ENCRYPTED = (b"BEGIN ENCRYPTED", b"Proc-Type: 4,ENCRYPTED")  # PKCS#8, and the format of OpenSSL before it
Signature = tuple[int, ...]
Pem = tuple[bytes, bytes]
logger = logging.getLogger(__name__)


class Certificate:
    """A certificate and its private key, and the TLS context that uses them, a new one for new files."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises OSError, which names the setting that is wrong and what to do."""
        self._cert, self._key = cert, key
        self._seen = self._signature()
        self.pem, self.context = self._read()

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether there is a new pair.

        Files that do not fit change nothing: a program that renews them writes one after the other.
        """
        if (signature := self._signature()) == self._seen:
            return False
        self._seen = signature
        try:
            self.pem, self.context = self._read()  # a new one: a wrong pair would spoil that in use
        except OSError as error:
            logger.error("%s; the certificate of before stays", error)
            return False
        logger.info("RCNN_TLS_CERT: connections from now on get the new certificate")
        return True

    def _signature(self) -> Signature:
        try:
            stats = [path.stat() for path in (self._cert, self._key)]
        except OSError:
            return ()
        return tuple(part for stat in stats for part in (stat.st_mtime_ns, stat.st_size, stat.st_ino))

    def _read(self) -> tuple[Pem, ssl.SSLContext]:
        cert, key = _content("RCNN_TLS_CERT", self._cert), _content("RCNN_TLS_KEY", self._key)
        if CERTIFICATE not in cert:
            raise OSError(f"RCNN_TLS_CERT: {self._cert} has no certificate in PEM ({CERTIFICATE.decode()})")
        if KEY not in key:
            raise OSError(
                f"RCNN_TLS_KEY: {self._key} has no private key in PEM (-----BEGIN PRIVATE KEY-----)"
            )
        if any(mark in key for mark in ENCRYPTED):
            raise OSError(
                f"RCNN_TLS_KEY: {self._key} has a passphrase; write it without one: "
                f"openssl pkey -in {self._key} -out NEW_FILE"
            )
        return (key, cert), _context(self._cert, self._key)


def _content(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"{variable}: {path}: {error.strerror}; give a file that this user may read") from error


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password="")  # or OpenSSL would ask the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OSError(f"RCNN_TLS_KEY: {key} is not the key of the certificate in {cert}") from error
        raise OSError(
            f"RCNN_TLS_CERT, RCNN_TLS_KEY: {cert} and {key} cannot be used: {error.reason or error}; "
            "look at them with openssl x509 -in FILE and openssl pkey -in FILE"
        ) from error
    return context
