"""The Open Inference Protocol V2 over HTTP: data in binary behind the JSON, compressed bodies."""

import json
import struct
from typing import Any

import httpx
import numpy as np

from tests.support.protocols import FOUND, PNG, PROTOCOLS, TEXT, openinference_objects, tensor
from tests.support.served import Served

INFER = "/v2/models/fake/infer"
LENGTH = "Inference-Header-Content-Length"
refused = PROTOCOLS["openinference"].refused


def binary(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


async def post_binary(
    served: Served, data: bytes, size: int | None = None, length: str = "", **body: Any
) -> httpx.Response:
    """Post a tensor in binary that claims `size` bytes behind a JSON of `length`."""
    parameters = {"binary_data_size": len(data) if size is None else size}
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    text = json.dumps({"inputs": [one]} | body).encode()
    headers = {LENGTH: length or str(len(text))}
    return await served.client.post(INFER, content=text + data, headers=headers)


async def test_each_output_may_be_binary_or_not(served: Served) -> None:
    outputs = [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "labels"}]
    response = await post_binary(served, binary(PNG), outputs=outputs)
    assert response.headers["content-type"] == "application/octet-stream"
    end = int(response.headers[LENGTH])
    boxes, labels = json.loads(response.content[:end])["outputs"]
    assert (boxes["name"], boxes["parameters"]) == ("boxes", {"binary_data_size": 32})
    assert (labels["name"], labels["data"]) == ("labels", [1, 2])
    data = np.frombuffer(response.content[end:], "<f4").reshape(-1, 4)
    assert data.tolist() == [box for *_, box in FOUND]
    outputs = [{"name": "boxes", "parameters": {"binary_data": False}}]
    parameters = {"binary_data_output": True}
    response = await post_binary(served, binary(PNG), outputs=outputs, parameters=parameters)
    assert LENGTH not in response.headers
    assert response.json()["outputs"][0]["data"][:4] == [8.0, 12.0, 32.0, 36.0]


async def test_a_body_that_is_an_image_needs_no_json(served: Served) -> None:
    response = await served.client.post(INFER, content=PNG, headers={LENGTH: "0"})
    assert openinference_objects(response.json()) == FOUND


BROKEN: dict[str, dict[str, Any]] = {
    "more bytes than declared": {"data": binary(PNG) + b"x", "size": len(binary(PNG))},
    "fewer bytes than declared": {"data": binary(PNG), "size": len(binary(PNG)) + 1},
    "an element that does not end": {"data": binary(PNG)[:-1]},
    "a length that does not end": {"data": b"\x01\x00"},
    "an element too many": {"data": binary(PNG, PNG)},
    "a length that is no number": {"data": binary(PNG), "length": "-1"},
    "a length beyond the body": {"data": binary(PNG), "length": "99999999999"},
    "a length within the JSON": {"data": binary(PNG), "length": "10"},
}


async def test_broken_binary_data_are_refused(served: Served) -> None:
    for name, case in BROKEN.items():
        assert refused(await post_binary(served, **case), 422), name
    assert served.detector.prepared == []


# compressed answers


ACCEPTED = {"gzip": "gzip", "deflate": "deflate", "gzip;q=0, deflate": "deflate", "identity": None, "": None}


async def test_a_large_answer_is_compressed_in_an_accepted_coding(served: Served) -> None:
    for accept, coding in ACCEPTED.items():
        body = {"inputs": [tensor(*[TEXT] * 20)]}
        response = await served.client.post(INFER, json=body, headers={"Accept-Encoding": accept})
        assert response.headers.get("content-encoding") == coding
        assert response.headers["vary"] == "Accept-Encoding"
        assert len(response.json()["outputs"]) == 4
