"""The real app with a FakeDetector: over ASGI for bodies, and its real gRPC server for messages."""

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

import httpx
from google.protobuf.message import DecodeError

from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class FuzzedServer:
    """Takes one request after the other, on an event loop of its own."""

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = Settings(
            decode_threads=1, max_pixels=1_000_000, host="127.0.0.1", grpc_port=port, timeout_ms=20_000
        )
        self.detector = FakeDetector()
        self._app = create_app(settings, self.detector)
        self._runner = asyncio.Runner()
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._runner.run(self._start(port))
        return self

    async def _start(self, port: int) -> None:
        import grpc

        await self._lifespan.__aenter__()
        await self._app.state.service.started()
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://fuzz", timeout=60)
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._infer = self._channel.unary_unary(METHOD)  # bytes in, bytes out

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    async def _stop(self) -> None:
        await self._client.aclose()
        await self._channel.close()
        await self._lifespan.__aexit__(None, None, None)

    def post(self, path: str, body: bytes, headers: dict[str, Any]) -> int:
        """Send a request; its status. The response is a result or a documented error, of bounded length."""
        response = self._runner.run(self._client.post(path, content=body, headers=headers))
        assert response.status_code < 500 or response.status_code in (503, 504), response.text
        if response.status_code >= 400:
            assert response.headers["content-type"].startswith("application/"), response.headers
            assert len(response.content) < 10_000, "an error that grows with the request"
        return response.status_code

    def call(self, message: bytes, kind: type[Any]) -> str:
        """Send a message; its status. What is no message of the protocol is refused by grpcio itself."""
        import grpc

        try:
            kind.FromString(message)
        except DecodeError:
            return "NOT_SENT"
        code, details = self._runner.run(self._call(message))
        assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), f"{code}: {details}"
        assert len(details or "") < 10_000, "an error that grows with the message"
        return str(code.name)

    async def _call(self, message: bytes) -> tuple[Any, str | None]:
        call = self._infer(message, timeout=60)
        return await call.code(), await call.details()
