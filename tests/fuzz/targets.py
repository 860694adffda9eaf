"""What is fuzzed: each target takes bytes, and only its documented errors or a value may come out."""

import base64
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.protobuf import json_format

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from models.images.decoder import ImageError, Limits, decode
from models.images.formats.errors import HeaderError
from models.images.headers import read_header
from models.images.video.frames import read_frames
from tests.fuzz.server import FuzzedServer
from tests.support.data.image_files import samples, segment, with_jpeg_segments
from tests.support.data.moving import animation
from tests.support.fakes import picture
from tests.support.protocols import PROTOCOLS, as_json, encoded, multipart, tensor

LIMITS = Limits(1_000_000)
CANVAS = (128, 256)
FRAMES = 50
PNG = picture(24, 16)
SMALL = base64.b64encode(picture(8, 8)).decode()


@dataclass(frozen=True)
class Target:
    """A name, valid inputs, and the function that gets mutations of them and raises at a fault."""

    name: str
    corpus: Sequence[bytes]
    run: Callable[[bytes], object]


@contextmanager
def targets() -> Iterator[list[Target]]:
    """All targets, with a running server behind those of bodies."""
    with FuzzedServer() as server:
        yield [*_image_targets(), *_body_targets(server), *_call_targets(server)]


def _image_targets() -> list[Target]:
    files = [data for _, data in samples()]
    files.append(
        with_jpeg_segments(files[0], segment(0xE1, b"Exif\0\0II*\0" + bytes(20)), segment(0xDD, b"\0\1"))
    )
    moving = [animation(format) for format in ("GIF", "TIFF", "WEBP", "PNG")]
    return [
        Target("image", files + moving, _decode),
        Target("draft", files[:2], lambda data: _decode(data, CANVAS)),
        Target("header", files + moving, _read_header),
        Target("frames", moving, _read_frames),
    ]


def _decode(data: bytes, canvas: tuple[int, int] | None = None) -> None:
    try:
        image = decode(data, LIMITS, canvas)
    except ImageError as error:
        _check_text(str(error))
    else:
        assert image.width * image.height <= LIMITS.max_pixels, "more pixels than allowed"


def _read_header(data: bytes) -> None:
    try:
        read_header(data)
    except HeaderError as error:
        _check_text(str(error))


def _read_frames(data: bytes) -> None:
    try:
        for frame in islice(read_frames(data, LIMITS), FRAMES):
            assert frame.pixels.size <= 3 * LIMITS.max_pixels, "more pixels than allowed"
    except ImageError as error:
        _check_text(str(error))


def _check_text(text: str) -> None:
    assert text.isprintable(), f"a message that cannot be shown: {text!r}"
    assert len(text) < 1000, "a message that grows with the input"


def _body_targets(server: FuzzedServer) -> list[Target]:
    """A target for each route with its own parser; the query, the Content-Type and base64 are targets too."""

    def post(path: str, media_type: str, **headers: str) -> Callable[[bytes], object]:
        return lambda data: server.post(path, data, {"Content-Type": media_type, **headers})

    form, form_type = multipart(image=("a.png", PNG))
    batch, batch_type = multipart(image=("a.png", PNG), file=("b.png", PNG))
    as_text, _ = as_json({"image": encoded(PNG)})
    made = [
        Target("body:multipart", [form], post("/detect", form_type)),
        Target("body:batch", [batch], post("/detect/batch", batch_type)),
        Target(
            "body:json",
            [as_text, b'{"image": "data:image/png;base64,AAAA"}'],
            post("/detect", "application/json"),
        ),
        Target("body:raw", [PNG], post("/detect", "image/png")),
        Target("body:stream", [animation("GIF")], post("/detect/stream?every=2", "image/gif")),
        Target(
            "query",
            QUERIES,
            lambda data: server.post(f"/detect?{_url(data)}", PNG, {"Content-Type": "image/png"}),
        ),
        Target(
            "content-type",
            [form_type.encode(), *TYPES],
            lambda data: server.post("/detect", form, {"Content-Type": _header(data)}),
        ),
        Target(
            "base64",
            [SMALL.encode(), b"data:image/png;base64," + SMALL.encode()],
            lambda data: _base64(server, data),
        ),
    ]
    for name, protocol in PROTOCOLS.items():
        body, media_type = protocol.body(PNG)
        corpus = [body, *(OTHER_BODIES.get(name, ()))]
        made.append(Target(f"body:{name}", corpus, post(protocol.path, media_type)))
    return [*made, _tensor_target(server)]


def _tensor_target(server: FuzzedServer) -> Target:
    """Binary tensors; the JSON's length is part of the input, so that the border of both parts moves."""
    files = struct.pack("<I", len(PNG)) + PNG
    head = {
        "inputs": [tensor(name="image", shape=[1], data=None, parameters={"binary_data_size": len(files)})]
    }
    text = json.dumps(head).encode()
    pixels = json.dumps(
        {"inputs": [tensor(name="images", datatype="UINT8", shape=[1, 2, 2, 3], data=[7] * 12)]}
    ).encode()
    corpus = [struct.pack(">H", len(one)) + one + rest for one, rest in ((text, files), (pixels, b""))]

    def run(data: bytes) -> int:
        length = int.from_bytes(data[:2], "big")
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
        return server.post("/v2/models/fake/infer", data[2:], headers)

    return Target("body:tensors", corpus, run)


def _base64(server: FuzzedServer, data: bytes) -> int:
    body = json.dumps({"image": data.decode("latin-1")}).encode()
    return server.post("/detect", body, {"Content-Type": "application/json"})


def _call_targets(server: FuzzedServer) -> list[Target]:
    """Messages as bytes, and messages written as JSON, of which more mutations are messages."""
    image = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    pixels = pb.ModelInferRequest.InferInputTensor(name="images", datatype="UINT8", shape=[1, 2, 2, 3])
    pixels.contents.uint_contents.extend(range(12))
    raw = pb.ModelInferRequest(model_name="fake", inputs=[image])
    raw.raw_input_contents.append(struct.pack("<I", len(PNG)) + PNG)
    raw.parameters["score_threshold"].double_param = 0.5
    raw.outputs.add(name="boxes")
    listed = pb.ModelInferRequest(model_name="fake", id="7", inputs=[pixels])
    messages = (raw, listed)

    def call_json(data: bytes) -> str:
        try:
            message = json_format.Parse(data, pb.ModelInferRequest())
        except (json_format.ParseError, ValueError, RecursionError):
            return "NOT_SENT"
        return server.call(message.SerializeToString(), pb.ModelInferRequest)

    return [
        Target(
            "grpc",
            [message.SerializeToString() for message in messages],
            lambda data: server.call(data, pb.ModelInferRequest),
        ),
        Target("grpc:message", [json_format.MessageToJson(one).encode() for one in messages], call_json),
    ]


QUERIES = [
    b"score_threshold=0.5&nms_threshold=0.4&max_detections=3&classes=disc,kite&class_agnostic=true",
    b"box_format=xywh&normalized=1&size=128&timeout_ms=900&tile=auto&tile_overlap=0.3&min_area=4&priority=2&flip=true",
    b"format=coco&file_name=a.png&classes=disc&classes=4",
]
TYPES = [
    b"multipart/form-data; boundary=abc",
    b"application/json; charset=utf-8",
    b"image/png",
    b'a/b; c="d\\""; e*=f',
]
OTHER_BODIES: dict[str, Sequence[bytes]] = {
    "kserve": [json.dumps({"instances": [{"image_bytes": {"b64": SMALL}}]}).encode()],
    "openinference": [
        json.dumps({"id": "1", "parameters": {"classes": ["disc"]}, "inputs": [tensor(SMALL)]}).encode()
    ],
    "roboflow": [
        json.dumps(
            {"model_id": "fake", "confidence": 0.3, "image": {"type": "base64", "value": SMALL}}
        ).encode()
    ],
}


def _url(data: bytes) -> str:
    """The bytes as the query of a URL that a client can send."""
    return "".join(
        chr(one) if chr(one).isalnum() or chr(one) in "&=,.;+_%-" else f"%{one:02x}" for one in data[:8000]
    )


def _header(data: bytes) -> Any:
    """The bytes as the value of a header that a server's parser lets through."""
    return bytes(one for one in data[:8000] if one >= 32 and one != 127)
