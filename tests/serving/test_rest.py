"""The REST interface answers as TensorFlow Serving's, on toys and on the model itself."""

import base64
import json
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest

from serving.server import Server
from spinet_tf import BANDS
from tests.serving.requests import offset


@pytest.fixture(scope="module")
def toy_server(written_toys):
    options = {"port": 0, "rest_api_port": 0, "metrics_path": "/monitoring/prometheus/metrics", "poll": 0}
    arguments = {"grpc.max_receive_message_length": 100_000}
    with Server(written_toys, "toy", channel_arguments=arguments, **options) as server:
        yield server


@pytest.fixture
def ask(toy_server):
    """A function from a path and a body to a status and what came back."""

    def send(path, body=None, server=toy_server, headers=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{server.rest_address}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    return send


@pytest.fixture
def get(ask):
    def send(path, body=None, **kwargs):
        status, content = ask(path, body, **kwargs)
        return status, json.loads(content)

    return send


PREDICT = "/v1/models/toy:predict"
TYPES = {
    "float32": [0.5, 2],
    "float64": [1e-300, 3],
    "int8": [-3, 127],
    "uint8": [0, 255],
    "int32": [-(2**31), 5],
    "int64": [2**62, -1],
    "uint64": [2**64 - 1, 0],
    "bool": [True, False],
    "string": ["abc", {"b64": base64.b64encode(b"\xff\x00").decode()}],
}


def types(**changed):
    return {"signature_name": "types", "inputs": {**TYPES, **changed}}


# === Predictions ===


def test_rows_and_columns(get):
    assert get(PREDICT, {"instances": [1.0, 2, 5.5]}) == (200, {"predictions": [4, 5, 8.5]})
    assert get(PREDICT, {"instances": [{"x": [1.0]}, {"x": [2]}]}) == (200, {"predictions": [[4], [5]]})
    assert get(PREDICT, {"inputs": [[1.0, 2], [3, 4]]}) == (200, {"outputs": [[4, 5], [6, 7]]})
    assert get(PREDICT, {"inputs": {"x": 1.5}}) == (200, {"outputs": 4.5})


def test_several_inputs_and_outputs_are_named(get):
    rows = [{"x": [1.0, 2.0], "n": 1}, {"x": [3.0, 4.0], "n": 2}]
    predictions = [{"sum": 3, "n": 2}, {"sum": 7, "n": 3}]
    assert get(PREDICT, {"signature_name": "sums", "instances": rows}) == (200, {"predictions": predictions})
    inputs = {"x": [[1.0, 2.0], [3.0, 4.0]], "n": [1, 2]}
    assert get(PREDICT, {"signature_name": "sums", "inputs": inputs}) == (
        200,
        {"outputs": {"sum": [3, 7], "n": [2, 3]}},
    )


def test_every_type_survives(get):
    status, answer = get(PREDICT, types())
    assert status == 200
    texts = {name: answer["outputs"].pop(name) for name in ("string", "string_bytes")}
    assert answer["outputs"] == {name: values for name, values in TYPES.items() if name != "string"}
    assert [type(value) for value in answer["outputs"]["bool"]] == [bool, bool]
    assert texts == {
        "string": ["abc", "\ufffd\x00"],
        "string_bytes": [{"b64": "YWJj"}, {"b64": "/wA="}],
    }


@pytest.mark.parametrize("value", [0.2, 1 / 3, 1e-30, 16777215.0, float("nan"), float("inf"), -float("inf")])
def test_floats_are_printed_short_and_exact(get, ask, value):
    _, content = ask(PREDICT, types(float32=[value]))
    printed = json.loads(content)["outputs"]["float32"][0]
    np.testing.assert_equal(np.float32(printed), np.float32(value))
    assert len(repr(printed)) <= 16
    assert get(PREDICT, types(float32=[0.2]))[1]["outputs"]["float32"] == [0.2]


def test_versions_and_labels_in_the_address(toy_server, get):
    assert get("/v1/models/toy/versions/3:predict", {"instances": [0.0]}) == (200, {"predictions": [3]})
    missing = {"error": "Servable not found for request: Specific(toy, 2)"}
    assert get("/v1/models/toy/versions/2:predict", {"instances": [0.0]}) == (404, missing)
    unknown = {"error": "Unrecognized servable version label: a b"}
    assert get("/v1/models/toy/labels/a%20b:predict", {"instances": [0.0]}) == (400, unknown)
    assert get("/V1/MODELS/toy:PREDICT", {"instances": [0.0]}) == (200, {"predictions": [3]})


def test_uint16_has_no_json_form(get):
    error = {"error": "Conversion of JSON Value: 7 to type: uint16"}
    assert get(PREDICT, {"signature_name": "uint16", "instances": [7]}) == (501, error)


def test_the_model_describes_itself_and_takes_images_by_grpc_only(model_dir, get):
    with Server(model_dir, port=0, rest_api_port=0, warmup=False) as server:
        path = "/v1/models/spinet:predict"
        answer = get(path, {"signature_name": "describe", "instances": [0]}, server=server)
        assert answer == (200, {"predictions": [{"scale": 4, "bands": list(BANDS)}]})
        instance = {"images": [[[[1] * 12]]], "num_frames": 1}
        status, answer = get(path, {"instances": [instance]}, server=server)
        assert (status, answer["error"]) == (501, "Conversion of JSON Value: 1 to type: uint16")
        status, metadata = get("/v1/models/spinet/metadata", server=server)
        assert status == 200
        inputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
        assert inputs["images"]["dtype"] == "DT_UINT16"
        assert metadata["model_spec"]["version"] == "2"


# === What is refused ===


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: "),
        (b"{", "JSON Parse error: "),
        (b"\xff\xff", "JSON Parse error: "),
        (b"[" * 50_000, "JSON Parse error: "),
        ([1], "JSON Value: [1] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"inputs": [1.0], "instances": [1.0]}, "expecting only one of 'inputs' or 'instances' keys to exist"),
        ({"instances": 1}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"signature_name": 1, "instances": [1]}, "'signature_name' key must be a string value."),
        ({"signature_name": "no", "instances": [1]}, 'Serving signature name: "no" not found in signature def'),
        ({"signature_name": "sums", "instances": [1]}, "instances is a plain list, but expecting list of objects"),
        ({"signature_name": "sums", "inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        ({"signature_name": "sums", "inputs": {"x": [[1]]}}, "Missing named input: n in 'inputs' object."),
        ({"signature_name": "sums", "instances": [{"x": [1]}]}, "must only have keys: n,x"),
        ({"instances": [{"x": 1}, 2]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [1, {"x": 2}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": ["x"]}, 'JSON Value: "x" Type: String is not of expected type: float'),
        ({"instances": [None]}, "JSON Value: null Type: Null is not of expected type: float"),
        ({"instances": [True]}, "JSON Value: true Type: True is not of expected type: float"),
        ({"instances": [{"b64": "AA=="}]}, "Type: Object is not of expected type: float"),
        ({"instances": [16777216]}, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ({"instances": [1e39]}, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ({"instances": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"instances": [[1], 2]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"instances": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1"),
        (types(int32=[2**31]), "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        (types(int32=[1.0]), "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        (types(bool=[1]), "JSON Value: 1 Type: Number is not of expected type: bool"),
        (types(string=[1]), "JSON Value: 1 Type: Number is not of expected type: string"),
        (types(string=[{"b64": "?"}]), "Unable to base64 decode"),
        (types(string=[{"b46": "AA=="}]), "not formatted correctly for base64 data"),
        ({"signature_name": "sums", "inputs": {"x": [[1]], "n": [0]}}, "Expected positive n."),
    ],
)
def test_wrong_bodies_are_bad_requests(get, body, message):
    status, answer = get(PREDICT, body)
    assert status == 400
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/other:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("/v1/models/toy/versions/9", None, 404, "Could not find version 9 of model toy"),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/models/toy:predict", None, 400, "Malformed request: GET /v1/models/toy:predict"),
        ("/v1/models/toy", {}, 400, "Malformed request: POST /v1/models/toy"),
        (f"/v1/models/toy/versions/{2**63}", None, 400, "Failed to convert version"),
        ("/v1/models/toy:classify", {"examples": []}, 501, "Expected :predict. Received: :classify."),
    ],
)
def test_wrong_addresses(get, path, body, status, message):
    received, answer = get(path, body)
    assert (received, answer["error"][: len(message)]) == (status, message)


def test_other_addresses_are_not_found(ask):
    assert ask("/") == (404, b"Not found")
    assert ask("/monitoring/prometheus/metrics", {})[0] == 404


def test_bodies_over_the_limit_are_refused(get, toy_server):
    assert get(PREDICT, {"instances": [0.0] * 50_000})[0] in (413, 400)
    status, answer = raw(toy_server, b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 100001\r\n\r\n")
    assert status == 413
    assert answer["error"] == "Received message larger than max (100001 vs. 100000)"


@pytest.mark.parametrize("header", ["Content-Length: -1", "Content-Length: a", "Transfer-Encoding: chunked"])
def test_a_body_of_unknown_length_is_refused(toy_server, header):
    status, answer = raw(toy_server, f"POST /v1/models/toy:predict HTTP/1.1\r\n{header}\r\n\r\n".encode())
    assert (status, answer["error"]) == (411, "Expected the header Content-Length.")


def raw(server, data):
    host, port = server.rest_address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


# === Status and metrics ===


def test_status(get):
    status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/toy", "/v1/models/toy/versions/3"):
        assert get(path) == (200, {"model_version_status": [status]})


def test_both_interfaces_are_counted_by_the_names_of_tensorflow_serving(written_toys, ask, connect):
    options = {"port": 0, "rest_api_port": 0, "metrics_path": "/metrics", "poll": 0}
    with Server(written_toys, "toy", **options) as server:
        offset(connect(server.address)[0])
        ask(PREDICT, {"instances": [1.0]}, server=server)
        ask(PREDICT, {}, server=server)
        ask("/v1/models/toy", server=server)
        status, content = ask("/metrics", server=server)
        assert status == 200
        lines = dict(line.rsplit(" ", 1) for line in content.decode().splitlines() if line[0] != "#")
        requests = ":tensorflow:serving:request_count"
        assert lines[f'{requests}{{model_name="toy",status="OK"}}'] == "3.0"
        assert lines[f'{requests}{{model_name="toy",status="INVALID_ARGUMENT"}}'] == "1.0"
        latency = ":tensorflow:serving:request_latency_count"
        assert lines[f'{latency}{{API="Predict",entrypoint="GRPC",model_name="toy"}}'] == "1.0"
        assert lines[f'{latency}{{API="predict",entrypoint="REST",model_name="toy"}}'] == "2.0"
        loads = ":tensorflow:cc:saved_model:load_attempt_count"
        assert lines[f'{loads}{{model_path="{written_toys / "3"}",status="success"}}'] == "1.0"
        assert b"# TYPE :tensorflow:serving:request_count counter" in content
        assert b"_created" not in content
