"""The server lives through bad clients, and says what was wrong; a client lives through a server that is killed."""

import signal
import socket
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
import tensorflow as tf
from spinet_client import Client
from tensorflow_serving.apis import predict_pb2

from serving import rest
from serving.server import SPARE_THREADS, Server
from spinet_tf import predict_scene
from spinet_tf.inference.engine import KerasEngine
from tests.inference.scenes import make_scene
from tests.serving.proxy import Proxy
from tests.serving.requests import images, offset, predict_request, refusal
from tests.serving.test_load import in_hand
from tests.serving.test_process import running

PREDICT = "/tensorflow.serving.PredictionService/Predict"
THREE = np.array([3], np.int32)

# What a client can act on: of anything else it could not tell whether the server or the request is to blame.
CLEAR = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "INTERNAL"}


@pytest.fixture(scope="module")
def server(model_dir):
    arguments = {"grpc.max_receive_message_length": 2**20}
    with Server(model_dir, port=0, poll=0, warmup=False, grpc_max_threads=2, channel_arguments=arguments) as server:
        yield server


@pytest.fixture
def valid(server, connect):
    """A request, and a function that has the server answer it and returns the answer."""
    stub, _ = connect(server.address)
    request = predict_request(images=images(), num_frames=THREE)

    def ask(stub=stub):
        return tf.make_ndarray(stub.Predict(request, timeout=30).outputs["probabilities"])

    return request, ask


def damaged(request, rng):
    """The bytes of a request with some of them changed, left out, put in, or cut off."""
    data = bytearray(request.SerializeToString())
    # The tensor's values make up nearly all of them, and change nothing.
    place = int(rng.integers(120)) * int(rng.choice([1, -1]))
    match rng.integers(4):
        case 0:
            data[place] ^= 1 << int(rng.integers(8))
        case 1:
            del data[place : place + int(rng.integers(1, 9)) or None]
        case 2:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
        case 3:
            del data[int(rng.integers(len(data))) :]
    return bytes(data)


def wrong(request, rng):
    """The bytes of a request with a field or two that may be wrong."""
    changed = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    for _ in range(rng.integers(1, 3)):
        proto = changed.inputs[rng.choice(["images", "num_frames"])]
        number = int(rng.choice([-1, 0, 1, 2, 7, 255, 65535, 2**31, 2**62, int(rng.integers(100))]))
        match rng.integers(9):
            case 0:
                proto.dtype = int(rng.integers(130))
            case 1:
                proto.tensor_shape.dim.add(size=number)
            case 2:
                del proto.tensor_shape.dim[-1:]
            case 3:
                proto.tensor_shape.dim.add().size = 1
                proto.tensor_shape.dim[int(rng.integers(len(proto.tensor_shape.dim)))].size = number
            case 4:
                proto.tensor_content = rng.bytes(int(rng.integers(3000)))
            case 5:
                proto.ClearField("tensor_content")
                proto.int_val.append(max(-(2**31), min(number, 2**31 - 1)))
            case 6:
                changed.inputs.pop(rng.choice(["images", "num_frames"]), None)
            case 7:
                changed.output_filter.append(rng.choice(["probabilities", "logits", ""]))
            case 8:
                changed.model_spec.signature_name = rng.choice(["uint8", "describe", "\x00", "x" * 9000])
                changed.model_spec.version.value = int(rng.choice([2, number]))
    return changed.SerializeToString()


def test_a_thousand_bad_requests(server, connect, valid, until):
    request, ask = valid
    expected = ask()
    _, channel = connect(server.address)
    call = channel.unary_unary(PREDICT)
    rng = np.random.default_rng(0)
    requests = [rng.bytes(int(rng.integers(200))) for _ in range(200)]
    requests += [damaged(request, rng) for _ in range(300)] + [wrong(request, rng) for _ in range(500)]
    found = {}
    for data in requests:
        try:
            call(data, timeout=30)
            code, details = "OK", "an answer"
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
        assert details.startswith("Failed to parse PredictRequest: ") if code == "INTERNAL" else details
        found[code] = found.get(code, 0) + 1

    assert set(found) == CLEAR
    until(lambda: in_hand(server) == 0)
    np.testing.assert_array_equal(ask(), expected)


@pytest.mark.parametrize(
    "method",
    [
        "PredictionService/Predict",
        "PredictionService/GetModelMetadata",
        "ModelService/GetModelStatus",
        "ModelService/HandleReloadConfigRequest",
    ],
)
def test_what_cannot_be_parsed_is_said_to_be_so(server, connect, method):
    _, channel = connect(server.address)
    code, details = refusal(channel.unary_unary(f"/tensorflow.serving.{method}"), b"\xff\xff")
    assert code == "INTERNAL"
    assert details.startswith("Failed to parse ")


def test_a_slow_client_keeps_nobody_waiting_and_gets_its_answer(server, connect, valid):
    request, ask = valid
    expected = ask()
    proxy = Proxy(server.address, passed=1000)
    assert request.ByteSize() > 2000
    # One more than may be in hand: a request counts once it is there.
    slow = [connect(proxy.address)[0].Predict.future(request) for _ in range(3)]
    try:
        assert proxy.stalled.wait(30)
        np.testing.assert_array_equal(ask(), expected)
        assert not any(future.done() for future in slow)
        proxy.resume()
        answers = [future for future in slow if not future.exception(30)]
        assert answers
        for future in answers:
            np.testing.assert_array_equal(tf.make_ndarray(future.result().outputs["probabilities"]), expected)
    finally:
        proxy.close()


def test_dropped_connections_leave_nothing_behind(server, connect, valid, until):
    request, ask = valid
    expected = ask()
    for _ in range(2 + SPARE_THREADS + 1):
        proxy = Proxy(server.address, passed=1000)
        future = connect(proxy.address)[0].Predict.future(request, timeout=30)
        assert proxy.stalled.wait(30)
        proxy.close()
        assert future.exception(30) is not None
    until(lambda: in_hand(server) == 0)
    np.testing.assert_array_equal(ask(), expected)


def test_connections_that_speak_no_grpc_are_closed(server, valid):
    host, port = server.address.split(":")
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(data)
            while connection.recv(4096):
                pass
    assert valid[1]().shape == (1, 24, 24, 1)


def test_a_silent_http_client_is_hung_up_on(toys, monkeypatch):
    monkeypatch.setattr(rest._Handler, "timeout", 0.05)
    with Server(toys(1), "toy", port=0, rest_api_port=0, rest_api_num_threads=1) as server:
        host, port = server.rest_address.split(":")
        for data in (b"", b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"):
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(data)
                assert connection.recv(1) == b""


def test_many_clients_at_once_get_their_own_answers(toys, connect):
    with Server(toys(1), "toy", port=0, grpc_max_threads=32) as server:
        stub, _ = connect(server.address)
        futures = {x: stub.Predict.future(predict_request(name="toy", x=np.float32([[x]]))) for x in range(200)}
        answered = 0
        for x, future in futures.items():
            error = future.exception(30)
            if error is None:
                assert tf.make_ndarray(future.result().outputs["y"]).item() == x + 1
                answered += 1
            else:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert answered >= 32
        assert offset(stub) == 1


@pytest.mark.slow
def test_a_server_killed_mid_scene_and_started_again_costs_no_map(model_dir, tiny_spinet):
    scene = make_scene(height=20, width=20)
    arrays = scene["bands"].transpose("time", "y", "x", "band").to_numpy(), scene["valid"].to_numpy()
    options = {"tile": 8, "overlap": 4}
    expected = predict_scene(KerasEngine(tiny_spinet), scene, **options)["probability"].to_numpy()
    flags = ["--model_base_path", model_dir, "--enable_model_warmup=false"]
    with running(*flags) as (process, lines), ExitStack() as stack:
        address = lines[-1].split()[-1]

        def kill(done, total):
            if done == 3:
                process.kill()
                process.wait()
                stack.enter_context(Server(model_dir, port=int(address.split(":")[1]), warmup=False))

        with Client(address, retries=None, timeout=60) as client:
            probability = client.predict_scene(*arrays, **options, progress=kill, concurrency=2)
        assert process.returncode == -signal.SIGKILL
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)
