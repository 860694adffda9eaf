"""The gRPC port with the certificate of RCNN_TLS_CERT, also after it was renewed."""

from pathlib import Path

import grpc
import pytest

from app.protocols.openinference.grpc.server import listen
from tests.support.served import Serve
from tests.support.servers.certificates import Pair, make_pair, needs_openssl

CHECK = "/grpc.health.v1.Health/Check"


async def ready(port: int, pair: Pair) -> bytes:
    """What a client that trusts this certificate alone hears."""
    credentials = grpc.ssl_channel_credentials(pair.cert.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        answer: bytes = await channel.unary_unary(CHECK)(b"", timeout=20)
        return answer


@needs_openssl
async def test_grpc_is_encrypted_too(serve: Serve, tmp_path: Path) -> None:
    pair, renewed = make_pair(tmp_path), make_pair(tmp_path, "renewed")
    async with serve(**pair.settings) as served:
        server, port = await listen(served.app.state.service, served.app.state.stream_slots, "127.0.0.1", 0)
        try:
            assert await ready(port, pair) == b"\x08\x01"
            with pytest.raises(grpc.aio.AioRpcError):
                await ready(port, renewed)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(CHECK)(b"", timeout=20)
            renewed.cert.replace(pair.cert)
            renewed.key.replace(pair.key)
            assert await ready(port, pair) == b"\x08\x01"
        finally:
            await server.stop(None)
