"""Our messages are TensorFlow's and TensorFlow Serving's, byte for byte, beside them in one process."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message_factory import GetMessageClass
from spinet_client import messages
from spinet_client.messages import message_class
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: F401  (registers the official classes)
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

CLIENT = Path(__file__).parents[3] / "serving" / "client"
TENSOR = """dtype: DT_UINT16 tensor_shape {dim {size: 2} dim {size: -1 name: "time"}}
    version_number: 3 tensor_content: "\\001\\000\\377\\377" """
SPEC = 'model_spec {name: "spinet" version {value: 4294967296} signature_name: "uint8"}'
LABELLED = 'model_spec {name: "spinet" version_label: "stable"}'
INFO = 'dtype: DT_FLOAT tensor_shape {dim {size: -1} dim {size: 4}} name: "serving_default_images:0"'
SAMPLES = {
    "tensorflow.TensorShapeProto": ['dim {size: 0 name: "y"} dim {size: -1}', "unknown_rank: true"],
    "tensorflow.TensorProto": [
        TENSOR,
        "dtype: DT_FLOAT float_val: [0.1, -inf, nan, 3.4e38] tensor_shape {dim {size: 4}}",
        "dtype: DT_DOUBLE double_val: [0.1, 1e300]",
        "dtype: DT_HALF half_val: [15360, 65535]",
        "dtype: DT_INT8 int_val: [-128, 127]",
        "dtype: DT_UINT16 int_val: [0, 65535]",
        "dtype: DT_INT64 int64_val: [-9223372036854775808, 1]",
        "dtype: DT_BOOL bool_val: [true, false]",
        "dtype: DT_UINT32 uint32_val: 4294967295",
        "dtype: DT_UINT64 uint64_val: 18446744073709551615",
        'dtype: DT_STRING string_val: ["B01", "", "\\377"]',
    ],
    "tensorflow.TensorInfo": [INFO, "dtype: DT_STRING tensor_shape {unknown_rank: true}"],
    "tensorflow.SignatureDef": [
        f"""inputs {{key: "images" value {{{INFO}}}}} inputs {{key: "num_frames" value {{dtype: DT_INT32}}}}
            outputs {{key: "probabilities" value {{{INFO}}}}} method_name: "tensorflow/serving/predict" """
    ],
    "tensorflow.serving.ModelSpec": [SPEC[12:-1], LABELLED[12:-1], 'name: "x" version {}'],
    "tensorflow.serving.PredictRequest": [
        f"""{SPEC} inputs {{key: "images" value {{{TENSOR}}}}} inputs {{key: "a" value {{}}}}
            output_filter: ["a", "b"] """,
        LABELLED,
    ],
    "tensorflow.serving.PredictResponse": [f'{SPEC} outputs {{key: "probabilities" value {{{TENSOR}}}}}'],
    "tensorflow.serving.SignatureDefMap": [
        f'signature_def {{key: "describe" value {{outputs {{key: "scale" value {{{INFO}}}}}}}}}'
    ],
    "tensorflow.serving.GetModelMetadataRequest": [f'{SPEC} metadata_field: "signature_def"'],
    "tensorflow.serving.GetModelMetadataResponse": [
        f"""{SPEC} metadata {{key: "signature_def"
            value {{type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap" value: "\\010\\001"}}}}"""
    ],
    "tensorflow.serving.StatusProto": ['error_code: RESOURCE_EXHAUSTED error_message: "full"', ""],
    "tensorflow.serving.ModelVersionStatus": [
        f'version: 9223372036854775807 state: {state} status {{error_code: {code} error_message: "why"}}'
        for state, code in [
            ("START", "OK"),
            ("AVAILABLE", "NOT_FOUND"),
            ("UNLOADING", "UNAVAILABLE"),
            ("END", "UNKNOWN"),
        ]
    ],
    "tensorflow.serving.GetModelStatusRequest": [SPEC, LABELLED],
    "tensorflow.serving.GetModelStatusResponse": [
        "model_version_status {version: 1 state: END} model_version_status {version: 2 state: LOADING}"
    ],
}


def official(name):
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def ours(kind):
    """Descriptors of one kind in our files, but Google's own ones."""
    for name in ("tensor.proto", "error.proto", "serving.proto"):
        yield from getattr(messages._pool.FindFileByName(name), kind).values()


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in SAMPLES.items() for text in texts])
def test_messages_are_the_official_ones_byte_for_byte(name, text):
    theirs = text_format.Parse(text, official(name)())
    mine = text_format.Parse(text, message_class(name)())
    written = theirs.SerializeToString(deterministic=True)
    assert mine.SerializeToString(deterministic=True) == written
    assert message_class(name).FromString(written) == mine
    assert official(name).FromString(mine.SerializeToString()) == theirs


def test_there_is_a_sample_of_every_message():
    assert {message.full_name for message in ours("message_types_by_name")} == set(SAMPLES)
    for name, texts in SAMPLES.items():
        used = {
            field.name for text in texts for field, _ in text_format.Parse(text, message_class(name)()).ListFields()
        }
        assert used == set(message_class(name).DESCRIPTOR.fields_by_name), name


def test_numbers_and_types_are_the_official_ones():
    def fields(message):
        for field in message.fields:
            kind = field.message_type or field.enum_type
            yield field.name, field.number, field.type, field.is_repeated, field.is_packed, kind and kind.full_name

    def enums(message):
        for enum in message.enum_types:
            yield enum.full_name, [(value.name, value.number) for value in enum.values]

    for message in ours("message_types_by_name"):
        for mine in (message, *message.nested_types):
            theirs = descriptor_pool.Default().FindMessageTypeByName(mine.full_name)
            assert set(fields(mine)) <= set(fields(theirs))
            assert list(enums(mine)) == list(enums(theirs))
    for mine in ours("enum_types_by_name"):
        theirs = descriptor_pool.Default().FindEnumTypeByName(mine.full_name).values_by_name
        assert {value.name: value.number for value in mine.values}.items() <= {
            n: v.number for n, v in theirs.items()
        }.items()


def test_fields_that_are_not_ours_are_kept():
    request = official("tensorflow.serving.PredictRequest")(request_options={"max_cache_length": 3})
    written = request.SerializeToString()
    assert message_class("tensorflow.serving.PredictRequest").FromString(written).SerializeToString() == written
    unnamed = official("tensorflow.TensorProto")(dtype="DT_BFLOAT16")
    assert message_class("tensorflow.TensorProto").FromString(unnamed.SerializeToString()).dtype == 14


def test_methods_are_those_of_the_official_stubs():
    calls = {}

    class Channel:
        def unary_unary(self, path, request_serializer, response_deserializer, **_):
            calls[path] = request_serializer, response_deserializer

    prediction_service_pb2_grpc.PredictionServiceStub(Channel())
    model_service_pb2_grpc.ModelServiceStub(Channel())
    for method in (messages.PREDICT, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS):
        serialize, parse = calls[method.path]
        theirs = official(method.request.DESCRIPTOR.full_name)()
        assert serialize(theirs) == b""
        assert parse(b"").DESCRIPTOR.full_name == method.response.DESCRIPTOR.full_name
        assert not isinstance(theirs, method.request)


def test_the_package_carries_what_the_proto_files_compile_to(tmp_path):
    protos = CLIENT / "protos"
    files = sorted(path.name for path in protos.glob("*.proto"))
    compiled = tmp_path / messages.FILE
    arguments = [f"-I{protos}", "--include_imports", f"--descriptor_set_out={compiled}"]
    # Not in this process, where it would meet TensorFlow's copy of the compiler and crash.
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments, *files], check=True)
    carried = CLIENT / "spinet_client" / messages.FILE
    parse = descriptor_pb2.FileDescriptorSet.FromString
    assert parse(carried.read_bytes()) == parse(compiled.read_bytes())
