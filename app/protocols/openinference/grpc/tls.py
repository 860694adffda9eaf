"""TLS over gRPC, with the certificate of the HTTP server."""

from typing import Any

import grpc

from app.settings.certificate import Certificate
from app.settings.settings import Settings


def server_credentials(settings: Settings) -> Any:
    """The credentials of the settings' certificate, which new connections get anew; None without one."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificate = Certificate(settings.tls_cert, settings.tls_key)

    def current() -> Any:
        return grpc.ssl_server_certificate_configuration([certificate.pem])

    def changed() -> Any:
        """Called by gRPC before each handshake, in turn; None keeps what it has."""
        return current() if certificate.refresh() else None

    return grpc.dynamic_ssl_server_credentials(current(), changed, require_client_authentication=False)
