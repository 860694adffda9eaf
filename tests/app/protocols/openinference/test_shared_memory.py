"""Triton's shared memory: no region is registered, and each request about regions says so."""

import grpc
import pytest

from app.protocols.openinference.grpc.messages import SERVICE
from tests.app.protocols.openinference.test_grpc_bounds import channel
from tests.support.protocols import PROTOCOLS, as_json
from tests.support.served import Served

refused = PROTOCOLS["openinference"].refused
REGION = as_json({"key": "/frames", "offset": 0, "byte_size": 64})[0]


@pytest.mark.parametrize("kind", ["system", "cuda"])
async def test_a_region_is_refused_over_http(served: Served, kind: str) -> None:
    path = f"/v2/{kind}sharedmemory"
    response = await served.client.post(f"{path}/region/frames/register", content=REGION)
    assert "send the content" in refused(response, 422)
    assert (await served.client.get(f"{path}/status")).json() == []
    assert "'frames'" in refused(await served.client.get(f"{path}/region/frames/status"), 404)
    for unregister in ("unregister", "region/frames/unregister"):  # as clients do before they begin
        assert (await served.client.post(f"{path}/{unregister}")).json() == {}


async def test_a_region_is_refused_over_grpc(served: Served) -> None:
    async with channel(served) as (connected, _):
        for kind in ("SystemSharedMemory", "CudaSharedMemory"):
            for method in ("Status", "Unregister"):
                assert await connected.unary_unary(f"/{SERVICE}/{kind}{method}")(b"") == b""
            with pytest.raises(grpc.aio.AioRpcError, match="send the content") as raised:
                await connected.unary_unary(f"/{SERVICE}/{kind}Register")(b"\x0a\x01a")
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
