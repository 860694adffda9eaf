"""Messages of clients: fields are counted before protobuf builds them, large ones are parsed on a thread.

protobuf holds the interpreter while it parses, and needs 80 bytes for a field of two: a message of 20 MB
could stop the event loop for two seconds. Numbers of a tensor stay packed for the same reason, as bytes.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from app.errors import InvalidParameter
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.schemas.limits import MAX_MESSAGE_FIELDS, MAX_MESSAGE_TEXT
from app.transport.threads import run_sized

SERVICE = "inference.GRPCInferenceService"
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
VARINT_BYTES = 10  # of the longest number
NUMBER_BYTE, MORE = 0x7F, 0x80  # a byte of a varint: seven bits, and whether another one follows

_ONE_VALUE = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_BYTES)


def request_class(method: str) -> type[Any]:
    """The message class of a method's requests; in that of an inference, numbers are packed bytes."""
    service = _descriptors().FindServiceByName(SERVICE)
    found: type[Any] = GetMessageClass(service.methods_by_name[method].input_type)
    return found


@cache
def _descriptors() -> Any:
    """The protocol's own descriptors, but for numbers of a tensor: they are bytes, as on the wire."""
    file = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    [contents] = (message for message in file.message_type if message.name == "InferTensorContents")
    for field in contents.field:
        field.type = FieldDescriptorProto.TYPE_BYTES
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


async def parse(data: bytes, message: type[Any]) -> Any:
    """The message of these bytes; raises InvalidParameter."""
    check_fields(data, message.DESCRIPTOR)
    try:
        return await run_sized(len(data), message.FromString, data)
    except DecodeError as error:
        raise _malformed() from error


def check_fields(data: bytes, message: Descriptor) -> None:
    """Raise InvalidParameter for more than MAX_MESSAGE_FIELDS fields or MAX_MESSAGE_TEXT bytes of texts.

    Those of messages inside the message count too. Stops at the first field that is too many.
    """
    fields = text = 0
    for number, nbytes in _fields(data, message):
        fields, text = fields + number, text + nbytes
        if fields > MAX_MESSAGE_FIELDS:
            raise InvalidParameter(
                f"the message has more than {MAX_MESSAGE_FIELDS} fields, parameters and list items; send one "
                "input, its images and the options"
            )
        if text > MAX_MESSAGE_TEXT:
            raise InvalidParameter(
                f"the message has more than {MAX_MESSAGE_TEXT} bytes of names and texts; send images as bytes"
            )


def _fields(data: bytes, message: Descriptor) -> Iterator[tuple[int, int]]:
    """Each field on the wire: how many values it has, and its bytes if it is a text."""
    spans = [(0, len(data), message)]
    while spans:
        at, end, kind = spans.pop()
        while at < end:
            tag, at = _varint(data, at)
            if tag & 7 != LENGTH_DELIMITED:
                at = _skip(data, at, tag & 7)
                yield 1, 0
                continue
            length, at = _varint(data, at)
            field = kind.fields_by_number.get(tag >> 3)
            if field is not None and field.message_type is not None:
                spans.append((at, min(at + length, end), field.message_type))
            yield _values_and_text(field, length)
            at += length


def _values_and_text(field: FieldDescriptor | None, length: int) -> tuple[int, int]:
    """How many values a field of a length has, at most, and how many bytes of text."""
    if field is None or field.type in _ONE_VALUE:
        return 1, 0
    return (1, length) if field.type == FieldDescriptor.TYPE_STRING else (length, 0)  # else packed numbers


def byte_values(packed: bytes) -> bytes:
    """Packed numbers as one byte each; raises InvalidParameter for any but 0 to 255.

    From 128 on a number has two bytes: the first is the number itself, the second is 1.
    """
    encoded = np.frombuffer(packed, np.uint8)
    first = np.ones(encoded.size, np.bool_)
    first[1:] = encoded[:-1] < MORE
    if encoded.size and (encoded[-1] >= MORE or np.any(encoded[~first] != 1)):
        raise InvalidParameter("inputs: uint_contents must be whole numbers from 0 to 255")
    return encoded[first].tobytes()


def _skip(data: bytes, at: int, wire_type: int) -> int:
    """Where the value of a field ends that has no length; the fields of a group are counted one by one."""
    if wire_type == VARINT:
        return _varint(data, at)[1]
    return at + {FIXED64: 8, FIXED32: 4}.get(wire_type, 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; raises InvalidParameter."""
    value = 0
    for index, byte in enumerate(data[at : at + VARINT_BYTES]):
        value |= (byte & NUMBER_BYTE) << 7 * index
        if byte < MORE:
            return value, at + index + 1
    raise _malformed()


def _malformed() -> InvalidParameter:
    return InvalidParameter("the message is not one of this method; send it as the protocol's .proto says")
