"""The client and the local server speak TensorFlow Serving's protocol, and refuse what it refuses."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from spinet_client import Client, ServingError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import Server
from serving.tensors import to_proto
from spinet_tf import BANDS
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def images(batch=1, time=3, size=6, bands=12):
    return np.random.default_rng(5).integers(1, 10000, (batch, time, size, size, bands), np.uint16)


def predict_request(name="spinet", signature="serving_default", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(to_proto(value))
    return request


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=30)
    return raised.value.code(), raised.value.details()


# === What it answers ===


def test_served_probabilities_equal_the_keras_model(client, tiny_spinet):
    sent, num_frames = images(batch=2, time=4), np.array([4, 2], np.int32)
    expected = KerasEngine(tiny_spinet).predict(sent, num_frames)
    np.testing.assert_allclose(client.predict(sent, num_frames), expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-4


def test_all_frames_are_real_unless_said(client):
    np.testing.assert_array_equal(client.predict(images()), client.predict(images(), np.array([3])))


def test_client_learns_bands_and_scale_from_the_server(client):
    assert client.band_names == BANDS
    assert client.scale == 4


def test_messages_of_more_than_4_mib_pass_both_ways(client):
    sent = np.full((1, 3, 260, 260, 12), 3000, np.uint16)
    assert sent.nbytes > 4 * 2**20
    answer = client.predict(sent)
    assert answer.nbytes > 4 * 2**20
    assert answer.shape == (1, 1040, 1040, 1)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "uint8", "bool"])
def test_tensors_are_what_tensorflow_reads(dtype):
    array = np.random.default_rng(0).integers(0, 2, (2, 0, 3) if dtype == "bool" else (2, 3)).astype(dtype)
    read = tf.make_ndarray(to_proto(array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_the_server_reads_tensors_whose_values_are_listed(stub):
    sent = images()
    request = predict_request(num_frames=np.array([3], np.int32))
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(sent))
    assert request.inputs["images"].int_val
    answer = tf.make_ndarray(stub.Predict(request, timeout=30).outputs["probabilities"])
    again = stub.Predict(predict_request(images=sent, num_frames=np.array([3], np.int32)), timeout=30)
    np.testing.assert_array_equal(answer, tf.make_ndarray(again.outputs["probabilities"]))


def test_output_filter_and_model_spec(stub):
    request = predict_request(signature="describe", request=np.zeros(1, np.int32))
    request.output_filter.append("scale")
    response = stub.Predict(request, timeout=30)
    assert list(response.outputs) == ["scale"]
    assert (response.model_spec.name, response.model_spec.version.value) == ("spinet", 2)
    assert response.model_spec.signature_name == "describe"


def test_default_signature_and_stated_version(stub):
    request = predict_request(signature="", images=images(), num_frames=np.array([3], np.int32))
    request.model_spec.version.value = 2
    assert stub.Predict(request, timeout=30).model_spec.signature_name == "serving_default"


def test_metadata_holds_the_signatures(stub):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "spinet"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response = stub.GetModelMetadata(request, timeout=30)
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) >= {"serving_default", "describe"}
    assert set(signatures.signature_def["serving_default"].inputs) == {"images", "num_frames"}
    assert response.model_spec.version.value == 2


def test_status_and_health(channel):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "spinet"
    (status,) = (
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30).model_version_status
    )
    assert (status.version, status.state) == (2, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


# === What it refuses ===

THREE = np.array([3], np.int32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": images(), "mask": THREE}, r"inputs {images, num_frames}. Received: {images, mask}"),
        ({"images": images()}, r"inputs {images, num_frames}. Received: {images}"),
        ({"images": images(), "num_frames": THREE, "extra": THREE}, "Received: {extra, images, num_frames}"),
        ({"images": images().astype("float32"), "num_frames": THREE}, "images to be uint16. Received: float32"),
        ({"images": images(), "num_frames": np.array([3], np.int64)}, "num_frames to be int32. Received: int64"),
        ({"images": images(), "num_frames": THREE * 0}, "from 1 to the number of frames,] [3] [Received:] [0]"),
        ({"images": images(), "num_frames": -THREE}, "from 1 to the number of frames,] [3] [Received:] [-3]"),
        ({"images": images(), "num_frames": THREE + 1}, "from 1 to the number of frames,] [3] [Received:] [4]"),
        ({"images": images(bands=10), "num_frames": THREE}, "images of 12 bands (B01, B02"),
        ({"images": images()[0], "num_frames": THREE}, "Expected images"),
    ],
)
def test_wrong_inputs_are_invalid_arguments(stub, inputs, message):
    code, details = refusal(stub.Predict, predict_request(**inputs))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in details
    assert "{{node" not in details


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_an_invalid_argument(stub):
    request = predict_request(images=images(), num_frames=THREE)
    request.inputs["images"].tensor_content = b"\x00" * 3
    code, details = refusal(stub.Predict, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "Cannot read the tensor images" in details


def test_a_tensor_without_a_type_is_an_invalid_argument(stub):
    request = predict_request(images=images(), num_frames=THREE)
    request.inputs["images"].dtype = 0
    assert refusal(stub.Predict, request)[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_signature_and_output(stub):
    request = predict_request(signature="classify", images=images(), num_frames=THREE)
    code, details = refusal(stub.Predict, request)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert '"classify" not found' in details
    request = predict_request(images=images(), num_frames=THREE)
    request.output_filter.append("logits")
    code, details = refusal(stub.Predict, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "outputs among {probabilities}. Received: {logits}" in details


@pytest.mark.parametrize("method", ["Predict", "GetModelMetadata", "GetModelStatus"])
@pytest.mark.parametrize(("name", "version"), [("other", None), ("spinet", 1)])
def test_unknown_model_and_version_are_not_found(channel, stub, method, name, version):
    call, request = {
        "Predict": (stub.Predict, predict_request(images=images(), num_frames=THREE)),
        "GetModelMetadata": (
            stub.GetModelMetadata,
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
        ),
        "GetModelStatus": (
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus,
            get_model_status_pb2.GetModelStatusRequest(),
        ),
    }[method]
    request.model_spec.name = name
    if version:
        request.model_spec.version.value = version
    code, details = refusal(call, request)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "There is: version 2 of 'spinet'" in details


@pytest.mark.parametrize("fields", [[], ["weights"]])
def test_other_metadata_is_refused(stub, fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "spinet"
    assert refusal(stub.GetModelMetadata, request)[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_client_repeats_what_the_server_says(client):
    with pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*num_frames from 1 to the number of frames"):
        client.predict(images(), np.array([9]))


@pytest.mark.parametrize("wrong", [images().astype(np.float32), images()[0]])
def test_client_refuses_other_images_before_sending(wrong):
    with Client("127.0.0.1:1") as client, pytest.raises(ServingError, match="Expected images as uint16"):
        client.predict(wrong)


def test_unreachable_server_is_one_clear_error():
    with Client("127.0.0.1:1") as client, pytest.raises(ServingError, match=r"No server answers at 127\.0\.0\.1:1\."):
        client.predict(images())


def test_an_answer_that_takes_too_long_is_one_clear_error(server):
    with Client(server.address, timeout=1e-6) as client, pytest.raises(ServingError, match="no answer within 1e-06 s"):
        client.predict(images())


def test_a_folder_without_versions_is_refused(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "saved_model.pb").touch()
    with pytest.raises(SpinetError, match=r"numbered versions.*export\.saved_model"):
        Server(tmp_path, port=0)


def test_a_port_in_use_is_refused(server, model_dir):
    with pytest.raises(SpinetError, match="Choose another port"):
        Server(model_dir, port=int(server.address.split(":")[1]))


def test_the_server_listens_on_this_machine_only(server):
    assert server.address.startswith("127.0.0.1:")
