"""The gRPC protocol: the .proto is a part of the published one, and the checked-in code is made from it."""

import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from tests.support.served import ROOT

# Prints tritonclient's own descriptors. In a process of their own: one process holds each name only once.
PUBLISHED = """
import base64
from tritonclient.grpc import model_config_pb2, service_pb2
for module in (service_pb2, model_config_pb2):
    print(base64.b64encode(module.DESCRIPTOR.serialized_pb).decode())
"""


def fields_of(message: DescriptorProto, inside: str = "") -> Iterator[tuple[str, FieldDescriptorProto]]:
    """Every field of a message and of those inside it, by its full name."""
    name = f"{inside}{message.name}."
    yield from ((name + field.name, field) for field in message.field)
    for nested in message.nested_type:
        yield from fields_of(nested, name)


def test_the_messages_are_those_of_the_published_protocol() -> None:
    """Every field, method and enum value of ours is in tritonclient's own descriptors."""
    done = subprocess.run([sys.executable, "-c", PUBLISHED], capture_output=True, timeout=60, check=True)
    files = [FileDescriptorProto.FromString(b64decode(line)) for line in done.stdout.split()]
    theirs = dict(found for file in files for message in file.message_type for found in fields_of(message))
    types = {value.name: value.number for file in files for one in file.enum_type for value in one.value}
    ours = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    checked = [found for message in ours.message_type for found in fields_of(message)]
    assert len(checked) > 60
    for name, field in checked:
        published = theirs[name]
        assert (field.number, field.type, field.label) == (published.number, published.type, published.label)
        assert field.type_name == published.type_name, name
        assert field.HasField("oneof_index") == published.HasField("oneof_index"), name
    assert {value.name: types[value.name] for value in ours.enum_type[0].value} == {
        value.name: value.number for value in ours.enum_type[0].value
    }
    methods = {method.name: method for file in files for one in file.service for method in one.method}
    assert all(methods[method.name] == method for method in ours.service[0].method)


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    folder = Path(pb.__file__).parent
    source = folder.relative_to(ROOT) / "grpc_service.proto"
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *outputs, str(source)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    made = {path.name: path.read_text() for path in (tmp_path / source).parent.iterdir()}
    assert len(made) == 3
    assert made == {name: (folder / name).read_text() for name in made}, "run `make proto`"
