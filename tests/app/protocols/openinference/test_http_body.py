"""Bodies of the Open Inference Protocol over HTTP: binary tensors beside the JSON, and compression."""

import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.protocols.openinference.test_http import INFER, LENGTH, close, infer
from tests.support.asgi_request import AsgiRequest
from tests.support.protocols import FOUND, PNG, TEXT, openinference_objects, tensor
from tests.support.served import Serve, Served, eventually


def binary(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


async def post_binary(served: Served, data: bytes, length: str | None = None, **body: Any) -> httpx.Response:
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [one]} | body).encode()
    headers = {LENGTH: str(len(text)) if length is None else length}
    return await served.client.post(INFER, content=text + data, headers=headers)


def read_binary(response: httpx.Response) -> dict[str, Any]:
    """The outputs' arrays, as tritonclient reads them."""
    assert response.status_code == 200, response.text
    end = int(response.headers[LENGTH])
    arrays = {}
    kinds = {"FP32": "<f4", "INT64": "<i8", "INT32": "<i4"}
    rest = response.content[end:]
    for one in json.loads(response.content[:end])["outputs"]:
        if "data" in one:
            arrays[one["name"]] = np.array(one["data"]).reshape(one["shape"])
            continue
        size = one["parameters"]["binary_data_size"]
        arrays[one["name"]] = np.frombuffer(rest[:size], kinds[one["datatype"]]).reshape(one["shape"])
        rest = rest[size:]
    assert rest == b""
    return arrays


async def test_each_output_may_be_binary_or_not(served: Served) -> None:
    outputs = [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "labels"}]
    response = await post_binary(served, binary(PNG), outputs=outputs)
    assert response.headers["content-type"] == "application/octet-stream"
    assert list(read_binary(response)) == ["boxes", "labels"]
    response = await post_binary(
        served,
        binary(PNG),
        outputs=[{"name": "boxes", "parameters": {"binary_data": False}}],
        parameters={"binary_data_output": True},
    )
    assert LENGTH not in response.headers
    assert response.json()["outputs"][0]["data"][:4] == [8.0, 12.0, 32.0, 36.0]


async def test_a_body_that_is_an_image_needs_no_json(served: Served) -> None:
    response = await served.client.post(INFER, content=PNG, headers={LENGTH: "0"})
    close(openinference_objects(response.json()), FOUND)


BROKEN: dict[str, dict[str, Any]] = {
    "more than declared": {"data": binary(PNG) + b"x", "declared": -1},
    "less than declared": {"data": binary(PNG), "declared": 1},
    "an element that does not end": {"data": binary(PNG)[:-1]},
    "a length that does not end": {"data": b"\x01\x00"},
    "an element too many": {"data": binary(PNG, PNG)},
    "a length that is no number": {"data": binary(PNG), "length": "-1"},
    "a length beyond the body": {"data": binary(PNG), "length": "99999999999"},
    "a length within the JSON": {"data": binary(PNG), "length": "10"},
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
async def test_broken_binary_data_are_refused(served: Served, case: dict[str, Any]) -> None:
    declared = len(case["data"]) + case.get("declared", 0)
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": declared}}
    body = {"data": case["data"], "length": case.get("length"), "inputs": [one]}
    response = await post_binary(served, **body)
    assert (response.status_code, list(response.json())) == (422, ["error"]), response.text
    assert served.detector.prepared == []


async def test_input_data_and_binary_data_exclude_each_other(served: Served) -> None:
    response = await infer(served, tensor(TEXT, parameters={"binary_data_size": 3}))
    assert response.status_code == 422


# compressed bodies


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
async def test_a_bomb_is_refused_as_soon_as_it_is_too_large(serve: Serve, encode: Any) -> None:
    async with serve(max_body_bytes=100_000) as served:
        bomb = encode(bytes(50_000_000))
        assert len(bomb) < 100_000
        encoding = "gzip" if encode is gzip.compress else "deflate"
        response = await served.client.post(INFER, content=bomb, headers={"Content-Encoding": encoding})
        assert (response.status_code, list(response.json())) == (413, ["error"])
        assert await served.metric("rcnn_rejected_total", code="body_too_large") == 1


async def test_what_a_body_inflates_to_counts_for_all_of_them(serve: Serve) -> None:
    """Two bodies of half the bytes allowed in total fit while they are compressed, and not inflated."""
    async with serve(max_queue_bytes=1 << 20, max_body_bytes=1 << 20) as served:
        half = gzip.compress(bytes(600_000))
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(half) + 1)}
        requests = [AsgiRequest(served.app, INFER, headers) for _ in range(2)]
        for request in requests:
            request.send(half, more=True)
        await eventually(
            lambda: {request.status for request in requests} == {429, None}, "one of them is refused"
        )
        for request in requests:
            request.leave()
            await request.ended()


DAMAGED = {
    "no gzip": b"no gzip at all",
    "cut short": gzip.compress(PNG)[:-9],
    "something behind it": gzip.compress(b"{}") + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_body_is_refused(served: Served, body: bytes) -> None:
    response = await served.client.post(INFER, content=body, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, list(response.json())) == (422, ["error"])


async def test_another_coding_is_refused(served: Served) -> None:
    response = await served.client.post(INFER, content=PNG, headers={"Content-Encoding": "br"})
    assert (response.status_code, list(response.json())) == (415, ["error"])
    assert "gzip or deflate" in response.json()["error"]


ACCEPTED = {"gzip;q=0, deflate": "deflate", "identity": None, "": None}


@pytest.mark.parametrize(("accept", "coding"), ACCEPTED.items())
async def test_a_large_answer_is_compressed_as_the_client_accepts(
    served: Served, accept: str, coding: str | None
) -> None:
    body = {"inputs": [tensor(*[TEXT] * 20)]}
    response = await served.client.post(INFER, json=body, headers={"Accept-Encoding": accept})
    assert response.headers.get("content-encoding") == coding
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(response.json()["outputs"]) == 4
