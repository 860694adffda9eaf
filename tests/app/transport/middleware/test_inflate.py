"""Compressed request bodies: every coding, bounded by the inflated size, and refused where it is damaged."""

import gzip
import sys
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import picture
from tests.support.served import Serve, Served, eventually

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PNG = picture()
LARGE = picture(900, 700, "BMP")  # several pieces
AS_PNG = {"Content-Type": "image/png"}


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def in_halves(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "beside identity": ("identity, gzip", gzip.compress),
    "gzip in members": ("gzip", in_halves(gzip.compress)),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
    "zstd in frames": ("zstd", in_halves(zstd.compress)),
    "identity": ("identity", bytes),
}


@pytest.mark.parametrize(("coding", "compress"), CODINGS.values(), ids=CODINGS)
async def test_a_body_arrives_as_it_was_before_its_coding(
    served: Served, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    for image, size in ((PNG, (64, 48)), (LARGE, (900, 700))):
        content = compress(image)
        cuts = (0, 1, 2, len(content) // 2, len(content) - 3, None)
        pieces = [content[start:end] for start, end in pairwise(cuts)]
        request = AsgiRequest(served.app, "/detect", AS_PNG | {"Content-Encoding": coding})
        for piece in pieces:
            request.send(piece, more=True)
        request.send(b"")
        await request.answered()
        assert request.status == 200, request.problem
        assert request.answer["image"] == dict(zip(("width", "height"), size, strict=True))


COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", COMPRESS)
async def test_a_bomb_is_refused_as_soon_as_it_is_too_large(serve: Serve, coding: str) -> None:
    async with serve(max_body_bytes=1_000_000) as served:
        bomb = COMPRESS[coding](bytes(50_000_000))
        assert len(bomb) < 1_000_000
        for path in ("/detect", "/v1/models/fake:predict"):
            response = await served.client.post(path, content=bomb, headers={"Content-Encoding": coding})
            assert response.status_code == 413
        assert await served.metric("rcnn_rejected_total", code="body_too_large") == 2


async def test_inflated_bytes_count_against_the_total(serve: Serve) -> None:
    """Two bodies of half the bytes allowed in total fit while they are compressed, and not inflated."""
    async with serve(max_queue_bytes=1 << 20, max_body_bytes=1 << 20) as served:
        half = gzip.compress(bytes(600_000))
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(half) + 1)}
        requests = [AsgiRequest(served.app, "/detect", headers) for _ in range(2)]
        for request in requests:
            request.send(half, more=True)
        await eventually(lambda: {one.status for one in requests} == {429, None}, "one of them is refused")
        for request in requests:
            request.leave()
            await request.ended()


FAR = zstd.CompressionParameter.window_log
WRONG: dict[str, tuple[str, bytes, int, str]] = {
    "no gzip": ("gzip", b"no gzip at all", 422, "not valid gzip: its content is damaged"),
    "no zstd": ("zstd", b"no zstd at all", 422, "not valid zstd: its content is damaged"),
    "cut short": ("gzip", gzip.compress(PNG)[:-9], 422, "it ends too early"),
    "zstd cut short": ("zstd", zstd.compress(PNG)[:-9], 422, "it ends too early"),
    "something behind it": ("gzip", gzip.compress(PNG) + b"x", 422, "not valid gzip"),
    "something behind deflate": ("deflate", zlib.compress(PNG) + b"x", 422, "bytes follow its end"),
    "nothing": ("gzip", b"", 422, "it ends too early"),
    "many members": ("gzip", gzip.compress(b"") * 5000, 422, "bytes follow its end"),
    "a window of 128 MB": ("zstd", zstd.compress(LARGE * 8, options={FAR: 27}), 422, "not valid zstd"),
    "another coding": ("br", PNG, 415, "send one of gzip, deflate, zstd, or none"),
    "two codings": ("gzip, gzip", PNG, 415, "'gzip, gzip'"),
}


@pytest.mark.parametrize(("coding", "body", "status", "text"), WRONG.values(), ids=WRONG)
async def test_a_damaged_body_and_another_coding_are_refused(
    served: Served, coding: str, body: bytes, status: int, text: str
) -> None:
    response = await served.client.post("/detect", content=body, headers={"Content-Encoding": coding})
    assert response.status_code == status
    assert text in response.json()["detail"]
    assert served.detector.prepared == []


async def test_without_the_library_the_problem_names_what_to_install(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, zstd.__name__.partition(".")[0], None)
    monkeypatch.setitem(sys.modules, zstd.__name__, None)
    response = await served.client.post(
        "/detect", content=zstd.compress(PNG), headers={"Content-Encoding": "zstd"}
    )
    assert response.status_code == 415
    assert "pip install 'rcnn-serve[zstd]'" in response.json()["detail"]


async def test_the_coding_is_looked_at_after_key_options_and_capacity(serve: Serve) -> None:
    async with serve(api_keys="alpha") as served:
        for headers, query, status in (({}, "", 401), ({"X-API-Key": "alpha"}, "size=1", 422)):
            request = AsgiRequest(served.app, f"/detect?{query}", headers | {"Content-Encoding": "br"})
            await request.answered()  # without a byte of its body
            assert request.status == status
