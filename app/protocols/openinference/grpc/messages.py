"""The messages of the published grpc_service.proto, as far as they are spoken here, built at run time.

In a pool of their own: another module of the process (tritonclient, say) may hold the same names.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# A message to its fields: number, type, name. A field may be `repeated`, `one` of several, or a `map` from
# text. Numbers and names are the published ones: github.com/kserve/open-inference-protocol, and Triton's
# model_config.proto, where some lie inside others, which the wire does not know. What is not here a client
# may send all the same: it is skipped.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name, 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name, 2 string version, 3 repeated string extensions",
    "ModelMetadataRequest": "1 string name, 2 string version",
    "TensorMetadata": "1 string name, 2 string datatype, 3 repeated int64 shape",
    "ModelMetadataResponse": "1 string name, 2 repeated string versions, 3 string platform, "
    "4 repeated TensorMetadata inputs, 5 repeated TensorMetadata outputs",
    "InferParameter": "1 one bool bool_param, 2 one int64 int64_param, 3 one string string_param, "
    "4 one double double_param, 5 one uint64 uint64_param",
    "InferTensorContents": "1 repeated bool bool_contents, 2 repeated int32 int_contents, "
    "3 repeated int64 int64_contents, 4 repeated uint32 uint_contents, 5 repeated uint64 uint64_contents, "
    "6 repeated float fp32_contents, 7 repeated double fp64_contents, 8 repeated bytes bytes_contents",
    "InferInputTensor": "1 string name, 2 string datatype, 3 repeated int64 shape, "
    "4 map InferParameter parameters, 5 InferTensorContents contents",
    "InferRequestedOutputTensor": "1 string name, 2 map InferParameter parameters",
    "ModelInferRequest": "1 string model_name, 2 string model_version, 3 string id, "
    "4 map InferParameter parameters, 5 repeated InferInputTensor inputs, "
    "6 repeated InferRequestedOutputTensor outputs, 7 repeated bytes raw_input_contents",
    "InferOutputTensor": "1 string name, 2 string datatype, 3 repeated int64 shape, "
    "4 map InferParameter parameters, 5 InferTensorContents contents",
    "ModelInferResponse": "1 string model_name, 2 string model_version, 3 string id, "
    "4 map InferParameter parameters, 5 repeated InferOutputTensor outputs, "
    "6 repeated bytes raw_output_contents",
    "ModelStreamInferResponse": "1 string error_message, 2 ModelInferResponse infer_response",
    "ModelConfigRequest": "1 string name, 2 string version",
    "ModelInput": "1 string name, 2 DataType data_type, 4 repeated int64 dims, 8 bool optional",
    "ModelOutput": "1 string name, 2 DataType data_type, 3 repeated int64 dims",
    "ModelConfig": "1 string name, 2 string platform, 4 int32 max_batch_size, 5 repeated ModelInput input, "
    "6 repeated ModelOutput output",
    "ModelConfigResponse": "1 ModelConfig config",
    "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
    "ModelIndex": "1 string name, 2 string version, 3 string state, 4 string reason",
    "RepositoryIndexResponse": "1 repeated ModelIndex models",
    "ModelRepositoryParameter": "1 one bool bool_param, 2 one int64 int64_param, 3 one string string_param, "
    "4 one bytes bytes_param",
    "RepositoryModelLoadRequest": "1 string repository_name, 2 string model_name, "
    "3 map ModelRepositoryParameter parameters",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "1 string repository_name, 2 string model_name, "
    "3 map ModelRepositoryParameter parameters",
    "RepositoryModelUnloadResponse": "",
}
_DATA_TYPES = {"INVALID": 0, "UINT8": 2, "INT32": 8, "INT64": 9, "FP32": 11, "STRING": 13}

_Field = descriptor_pb2.FieldDescriptorProto


@cache
def messages() -> SimpleNamespace:
    """The classes of all messages, by their names."""
    file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package=PACKAGE, syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for name, number in _DATA_TYPES.items():
        kinds.value.add(name=f"TYPE_{name}", number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
            for name in _MESSAGES
        }
    )


def _add_field(message: Any, words: list[str]) -> None:
    number, *labels, kind, name = words
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if labels == ["one"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif labels:
        field.label = _Field.LABEL_REPEATED
    if labels == ["map"]:
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, ["1", "string", "key"])
        _add_field(entry, ["2", kind, "value"])
        kind = f"{message.name}.{entry.name}"
    _set_type(field, kind)


def _set_type(field: Any, kind: str) -> None:
    if kind[0].islower():
        field.type = getattr(_Field, f"TYPE_{kind.upper()}")
        return
    field.type = _Field.TYPE_ENUM if kind == "DataType" else _Field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{kind}"
