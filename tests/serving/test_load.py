"""Too much work, late work, unwanted work, and the end of work."""

import json
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.batching import Batching
from serving.server import Server
from serving.session import SavedModelSession
from tests.serving.requests import offset, refusal, states, toy_request


class Brake:
    """Holds every run of a graph until it is let go, and knows what has run."""

    def __init__(self):
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.ran = []


@pytest.fixture
def brake(monkeypatch):
    brake = Brake()
    run = SavedModelSession.run_checked

    def held(self, inputs, *args):
        brake.entered.release()
        assert brake.go.wait(30)
        brake.ran.append(inputs["x"].ravel().tolist())
        return run(self, inputs, *args)

    monkeypatch.setattr(SavedModelSession, "run_checked", held)
    yield brake
    brake.go.set()


@pytest.fixture
def serve(toys, connect):
    servers = []

    def start(**options):
        servers.append(Server(toys(1), "toy", port=0, poll=0, **{"max_concurrent_sessions": 1, **options}))
        return servers[-1], *connect(servers[-1].address)

    yield start
    for server in servers:
        server.stop()


def answer(future):
    return tf.make_ndarray(future.result(30).outputs["y"]).item()


def in_hand(server):
    return server.options.grpc_max_threads - server._services._predictor._slots._value


# === Too much ===


def test_more_requests_than_the_server_takes_are_refused_and_the_others_answered(serve, brake, until):
    server, stub, channel = serve(grpc_max_threads=3)
    futures = [stub.Predict.future(toy_request(x)) for x in range(3)]
    until(lambda: in_hand(server) == 3)
    code, details = refusal(stub.Predict, toy_request())
    assert code == "RESOURCE_EXHAUSTED"
    assert details.startswith("Server Threadpool Exhausted: 3 requests are in hand")
    # Who asks whether the server is ready gets an answer all the same.
    assert states(channel) == {1: "AVAILABLE"}
    brake.go.set()
    assert [answer(future) for future in futures] == [1, 2, 3]
    assert offset(stub) == 1
    counted = ':tensorflow:serving:request_count{model_name="toy",status="RESOURCE_EXHAUSTED"} 1.0'
    assert counted in server.metrics.text().decode()


def test_requests_that_are_refused_do_not_count_as_in_hand(serve):
    server, stub, _ = serve(grpc_max_threads=1)
    for _ in range(3):
        assert refusal(stub.Predict, toy_request(name="other"))[0] == "NOT_FOUND"
        assert refusal(stub.Predict, toy_request(signature="other"))[0] == "FAILED_PRECONDITION"
    assert offset(stub) == 1
    assert in_hand(server) == 0


def test_a_full_batching_queue_is_unavailable(serve, brake, until):
    batching = Batching(max_batch_size=1, max_enqueued_batches=2)
    server, stub, _ = serve(batching=batching, num_batch_threads=1)
    futures = [stub.Predict.future(toy_request(0))]
    assert brake.entered.acquire(timeout=30)
    futures += [stub.Predict.future(toy_request(x)) for x in (1, 2)]
    until(lambda: in_hand(server) == 3)
    code, details = refusal(stub.Predict, toy_request())
    assert code == "UNAVAILABLE"
    assert "2 batches enqueued and max_enqueued_batches is 2" in details
    brake.go.set()
    assert [answer(future) for future in futures] == [1, 2, 3]


@pytest.mark.parametrize("by_default", [True, False])
def test_messages_over_the_limit_are_refused(serve, by_default):
    limit = 2**28 if by_default else 2**20
    arguments = {} if by_default else {"grpc.max_receive_message_length": limit}
    _, stub, _ = serve(channel_arguments=arguments)
    request = toy_request()
    if not by_default:
        request.inputs["x"].tensor_content = bytes(limit)
        code, details = refusal(stub.Predict, request)
        assert code == "RESOURCE_EXHAUSTED"
        assert f"larger than max ({request.ByteSize()} vs. {limit})" in details
    request.inputs["x"].CopyFrom(toy_request().inputs["x"])
    # Few bytes may stand for many.
    request.inputs["x"].tensor_shape.dim[0].size = limit
    request.inputs["x"].ClearField("tensor_content")
    assert f"expected at most {limit} bytes" in refusal(stub.Predict, request)[1]
    assert offset(stub) == 1


# === Late and unwanted ===


@pytest.mark.parametrize("batching", [None, Batching(max_batch_size=1)])
def test_a_request_whose_deadline_has_passed_does_not_run(serve, brake, until, batching):
    server, stub, _ = serve(batching=batching, num_batch_threads=1)
    first = stub.Predict.future(toy_request(1))
    assert brake.entered.acquire(timeout=30)
    assert refusal(stub.Predict, toy_request(2), timeout=0.05)[0] == "DEADLINE_EXCEEDED"
    until(lambda: in_hand(server) == 1)
    brake.go.set()
    assert answer(first) == 2
    assert offset(stub) == 1
    assert brake.ran == [[1], [0]]


def test_a_prediction_over_http_that_takes_too_long_does_not_run(serve, brake, until):
    server, stub, _ = serve(rest_api_port=0, rest_api_timeout=0.05)
    first = stub.Predict.future(toy_request(1))
    assert brake.entered.acquire(timeout=30)
    url = f"http://{server.rest_address}/v1/models/toy:predict"
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(url, b'{"instances": [2.0]}', timeout=30)
    assert raised.value.code == 504
    assert json.loads(raised.value.read()) == {"error": "The deadline passed before the answer"}
    until(lambda: in_hand(server) == 1)
    brake.go.set()
    assert answer(first) == 2
    assert offset(stub) == 1
    assert brake.ran == [[1], [0]]


def test_a_cancelled_request_does_not_run(serve, brake, until):
    server, stub, _ = serve()
    running = stub.Predict.future(toy_request(1))
    assert brake.entered.acquire(timeout=30)
    waiting = stub.Predict.future(toy_request(2))
    until(lambda: in_hand(server) == 2)
    waiting.cancel()
    until(lambda: in_hand(server) == 1)
    brake.go.set()
    assert answer(running) == 2
    assert offset(stub) == 1
    assert brake.ran == [[1], [0]]


def test_a_graph_that_runs_is_stopped_at_the_deadline(toys, tmp_path):
    class Endless(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def count(self, x):
            return {"y": tf.while_loop(lambda x: tf.reduce_all(x >= 0), lambda x: [x + 1e-9], [x])[0]}

    endless = Endless()
    tf.saved_model.save(endless, str(tmp_path / "1"), signatures={"serving_default": endless.count})
    with SavedModelSession(tmp_path / "1") as session, pytest.raises(tf.errors.DeadlineExceededError):
        session.run_checked({"x": np.ones(1, np.float32)}, "serving_default", ["y"], timeout=0.05)


# === The end ===


def test_a_server_that_stops_answers_what_is_under_way_and_takes_nothing_new(serve, brake, connect, until):
    server, stub, _ = serve()
    futures = [stub.Predict.future(toy_request(x)) for x in (1, 2)]
    until(lambda: in_hand(server) == 2)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    until(lambda: refuses_new(connect, server.address))
    assert not any(future.done() for future in futures)
    brake.go.set()
    assert [answer(future) for future in futures] == [2, 3]
    stopper.join(30)
    assert not stopper.is_alive()


def refuses_new(connect, address):
    try:
        return not states(connect(address)[1])
    except grpc.RpcError as error:
        return error.code() == grpc.StatusCode.UNAVAILABLE


def test_a_server_does_not_wait_for_ever(serve, brake, until):
    server, stub, _ = serve()
    future = stub.Predict.future(toy_request(1))
    assert brake.entered.acquire(timeout=30)
    stopper = threading.Thread(target=server.stop, kwargs={"grace": 0.05})
    stopper.start()
    with pytest.raises(grpc.RpcError) as raised:
        future.result(30)
    assert raised.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    brake.go.set()
    stopper.join(30)
    assert not stopper.is_alive()


def test_what_happens_in_the_server_is_counted(serve):
    server, stub, _ = serve()
    started = time.monotonic()
    offset(stub)
    microseconds = (time.monotonic() - started) * 1e6
    refusal(stub.Predict, toy_request(name="made up"))
    lines = dict(line.rsplit(" ", 1) for line in server.metrics.text().decode().splitlines() if line[0] != "#")
    assert lines[':tensorflow:serving:request_count{model_name="toy",status="OK"}'] == "1.0"
    assert lines[':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}'] == "1.0"
    request = '{API="Predict",entrypoint="GRPC",model_name="toy"}'
    runtime = '{API="Predict",model_name="toy",runtime="TF1"}'
    assert lines[f":tensorflow:serving:request_latency_count{request}"] == "1.0"
    in_graph = float(lines[f":tensorflow:serving:runtime_latency_sum{runtime}"])
    in_server = float(lines[f":tensorflow:serving:request_latency_sum{request}"])
    assert 0 < in_graph < in_server < microseconds
