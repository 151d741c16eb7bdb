"""The server speaks TensorFlow Serving's gRPC protocol, and refuses what it refuses, in its words."""

import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2

from serving.server import Server
from serving.tensors import from_proto, to_proto
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine
from tests.serving.requests import images, metadata_request, predict_request, refusal, states

THREE = np.array([3], np.int32)


@pytest.fixture
def stub(server, connect):
    return connect(server.address)[0]


@pytest.fixture
def channel(server, connect):
    return connect(server.address)[1]


def probabilities(response):
    return tf.make_ndarray(response.outputs["probabilities"])


# === What it answers ===


def test_served_probabilities_equal_the_keras_model(stub, tiny_spinet):
    sent, num_frames = images(batch=2, time=4), np.array([4, 2], np.int32)
    expected = KerasEngine(tiny_spinet).predict(sent, num_frames)
    answer = probabilities(stub.Predict(predict_request(images=sent, num_frames=num_frames), timeout=30))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-4


def test_messages_of_more_than_4_mib_pass_both_ways(stub):
    sent = np.full((1, 3, 260, 260, 12), 3000, np.uint16)
    assert sent.nbytes > 4 * 2**20
    answer = probabilities(stub.Predict(predict_request(images=sent, num_frames=THREE), timeout=60))
    assert answer.nbytes > 4 * 2**20
    assert answer.shape == (1, 1040, 1040, 1)


def test_tensors_whose_values_are_listed_are_read_too(stub):
    sent = images()
    request = predict_request(num_frames=THREE)
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(sent))
    assert request.inputs["images"].int_val
    listed = stub.Predict(request, timeout=30)
    in_bytes = stub.Predict(predict_request(images=sent, num_frames=THREE), timeout=30)
    np.testing.assert_array_equal(probabilities(listed), probabilities(in_bytes))


def test_the_last_listed_value_stands_for_all_that_are_missing(stub):
    request = predict_request(num_frames=THREE)
    request.inputs["images"].CopyFrom(to_proto(np.zeros((1, 3, 6, 6, 12), np.uint16)))
    request.inputs["images"].ClearField("tensor_content")
    request.inputs["images"].int_val.append(1500)
    repeated = stub.Predict(request, timeout=30)
    whole = stub.Predict(predict_request(images=np.full((1, 3, 6, 6, 12), 1500, np.uint16), num_frames=THREE))
    np.testing.assert_array_equal(probabilities(repeated), probabilities(whole))


def test_output_filter_and_model_spec(stub):
    request = predict_request(signature="describe", outputs=["scale"], request=np.zeros(1, np.int32))
    response = stub.Predict(request, timeout=30)
    assert list(response.outputs) == ["scale"]
    assert (response.model_spec.name, response.model_spec.version.value) == ("spinet", 2)
    assert response.model_spec.signature_name == "describe"


def test_default_signature_and_stated_version(stub):
    request = predict_request(version=2, images=images(), num_frames=THREE)
    assert stub.Predict(request, timeout=30).model_spec.signature_name == "serving_default"


def test_metadata_holds_the_signatures(stub):
    response = stub.GetModelMetadata(metadata_request(), timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) >= {"serving_default", "uint8", "describe"}
    assert set(signatures.signature_def["serving_default"].inputs) == {"images", "num_frames"}
    assert response.model_spec.version.value == 2


def test_status_of_all_versions_and_of_one(channel):
    assert states(channel, "spinet") == states(channel, "spinet", version=2) == {2: "AVAILABLE"}


def test_health_says_serving(channel):
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_names_services_and_their_messages(channel):
    reflected = ProtoReflectionDescriptorDatabase(channel)
    assert set(reflected.get_services()) == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = reflected.FindFileContainingSymbol("tensorflow.serving.PredictRequest")
    assert "PredictRequest" in [message.name for message in file.message_type]


# === What it refuses ===


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"images": images()},
            "input size does not match signature: 1!=2 len({images}) != len({images,num_frames}). Sent extra: {}. "
            "Missing but required: {num_frames}.",
        ),
        ({"images": images(), "num_frames": THREE, "extra": THREE}, "Sent extra: {extra}. Missing but required: {}."),
        (
            {"images": images(), "mask": THREE},
            "input tensor alias not found in signature: mask. Inputs expected to be in the set {images,num_frames}.",
        ),
        ({"images": images().astype("float32"), "num_frames": THREE}, "Expects arg[0] to be uint16 but float is provi"),
        ({"images": images(), "num_frames": np.array([3])}, "Expects arg[1] to be int32 but int64 is provided"),
        ({"images": images(), "num_frames": THREE * 0}, "from 1 to the number of frames,] [3] [Received:] [0]"),
        ({"images": images(), "num_frames": THREE + 1}, "from 1 to the number of frames,] [3] [Received:] [4]"),
        ({"images": images(bands=10), "num_frames": THREE}, "images of 12 bands (B01, B02"),
        ({"images": images()[0], "num_frames": THREE}, "Expected images"),
    ],
)
def test_wrong_inputs_are_invalid_arguments(stub, inputs, message):
    code, details = refusal(stub.Predict, predict_request(**inputs))
    assert code == "INVALID_ARGUMENT"
    assert message in details
    assert "{{node" not in details


def tensor(**fields):
    request = predict_request(images=images(), num_frames=THREE)
    for name, value in fields.items():
        setattr(request.inputs["images"], name, value)
    return request


def listed(*values, sizes=(1, 3, 6, 6, 12)):
    request = predict_request(num_frames=THREE)
    proto = request.inputs["images"]
    proto.dtype = tf.uint16.as_datatype_enum
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    proto.int_val.extend(values)
    return request


@pytest.mark.parametrize(
    "request_",
    [
        tensor(tensor_content=b"\x00" * 3),
        tensor(tensor_content=b"\x00" * 4),
        tensor(dtype=0),
        tensor(dtype=99),
        tensor(dtype=20),
        tensor(dtype=7),
        listed(70_000),
        listed(-1),
        listed(1, 2, 3, sizes=(2,)),
        listed(1, sizes=(1, 3, -6, 6, 12)),
        listed(1, sizes=[1] * 100),
    ],
)
def test_what_is_no_tensor_is_an_invalid_argument(stub, request_):
    code, details = refusal(stub.Predict, request_)
    assert code == "INVALID_ARGUMENT"
    assert details.startswith("tensor parsing error: images: ")


def test_a_few_bytes_that_stand_for_more_than_the_memory_are_refused(stub):
    code, details = refusal(stub.Predict, listed(1, sizes=(10**6, 10**6, 10**6)))
    assert code == "INVALID_ARGUMENT"
    assert "expected at most 268435456 bytes" in details


def test_unknown_signature_and_output(stub):
    code, details = refusal(stub.Predict, predict_request(signature="classify", images=images(), num_frames=THREE))
    assert code == "FAILED_PRECONDITION"
    assert details.startswith('Serving signature key "classify" not found.')
    assert "init_op" not in details
    for outputs, message in [
        (["logits"], "output tensor alias not found in signature: logits Outputs expected to be in the set {probabil"),
        (["probabilities"] * 2, "duplicate output tensor alias: probabilities"),
    ]:
        code, details = refusal(stub.Predict, predict_request(outputs=outputs, images=images(), num_frames=THREE))
        assert code == "INVALID_ARGUMENT"
        assert details.startswith(message)


def test_what_initialises_a_model_cannot_be_asked_for(stub):
    assert refusal(stub.Predict, predict_request(signature="__saved_model_init_op"))[0] == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "other"}, "Servable not found for request: Latest(other)"),
        ({"version": 1}, "Servable not found for request: Specific(spinet, 1)"),
    ],
)
def test_unknown_model_and_version_are_not_found(stub, spec, message):
    request = predict_request(**spec, images=images(), num_frames=THREE)
    assert refusal(stub.Predict, request) == ("NOT_FOUND", message)
    metadata = metadata_request()
    metadata.model_spec.CopyFrom(request.model_spec)
    assert refusal(stub.GetModelMetadata, metadata) == ("NOT_FOUND", message)


def test_status_of_unknown_models_and_versions_is_not_found(channel):
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "other"
    assert refusal(status, request) == ("NOT_FOUND", "Could not find any versions of model other")
    request.model_spec.name = "spinet"
    request.model_spec.version.value = 7
    assert refusal(status, request) == ("NOT_FOUND", "Could not find version 7 of model spinet")


def test_requests_without_a_model_are_invalid_arguments(stub, channel):
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    missing = ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert refusal(stub.Predict, predict_pb2.PredictRequest()) == missing
    assert refusal(stub.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest()) == missing
    assert refusal(status, get_model_status_pb2.GetModelStatusRequest()) == missing
    assert refusal(stub.Predict, predict_request(name="")) == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["signature_def", "weights"], "Metadata field weights is not supported"),
    ],
)
def test_other_metadata_is_refused(stub, fields, message):
    assert refusal(stub.GetModelMetadata, metadata_request(fields=fields)) == ("INVALID_ARGUMENT", message)


def test_labels_that_nothing_has_are_invalid_arguments(stub):
    request = predict_request(label="canary", images=images(), num_frames=THREE)
    assert refusal(stub.Predict, request) == ("INVALID_ARGUMENT", "Unrecognized servable version label: canary")


def test_other_methods_are_unimplemented(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
    assert refusal(call, b"")[0] == "UNIMPLEMENTED"


# === Where it listens ===


def test_a_folder_without_versions_is_refused(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "saved_model.pb").touch()
    with pytest.raises(SpinetError, match=r"spinet, no numbered versions in .*export\.saved_model"):
        Server(tmp_path, port=0)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpinetError, match=r"no folder .*nowhere"):
        Server(tmp_path / "nowhere", port=0)


def test_a_port_in_use_is_refused(server, toys):
    port = int(server.address.split(":")[1])
    with pytest.raises(SpinetError, match=f"Cannot listen on 127.0.0.1:{port}. Choose another port"):
        Server(toys(1), port=port)
    with pytest.raises(SpinetError, match=f"Cannot listen on 127.0.0.1:{port} .*Choose another port"):
        Server(toys(1, name="again"), port=0, rest_api_port=port)


@pytest.mark.parametrize("options", [{"port": 70_000}, {"port": -1}, {"port": 0, "rest_api_port": 70_000}])
def test_what_is_no_port_is_refused(tmp_path, options):
    with pytest.raises(SpinetError, match=r"Expected a port from 0 to 65535. Received: (70000|-1)"):
        Server(tmp_path, **options)


def test_the_server_listens_on_this_machine_only(server):
    assert server.address.startswith("127.0.0.1:")


# === Tensors ===


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64", "uint8", "bool", "float16"])
def test_tensors_survive_the_message(dtype):
    array = np.random.default_rng(0).integers(0, 2, (2, 0, 3) if dtype == "bool" else (2, 3)).astype(dtype)
    for read in (tf.make_ndarray(to_proto(array)), from_proto(to_proto(array), 100)):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_bytes_are_not_copied():
    proto = to_proto(np.arange(6, dtype=np.uint16))
    array = from_proto(proto, 100)
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize("text", [np.array([b"a", b"bcd"], object), np.array(["a", "bcd"]), np.array(b"abc")])
def test_text_survives_the_message(text):
    read = from_proto(to_proto(text), 100)
    assert read.shape == text.shape
    assert read.ravel().tolist() == [value if isinstance(value, bytes) else value.encode() for value in text.ravel()]
