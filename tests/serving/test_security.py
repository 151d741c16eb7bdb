"""Certificates and tokens keep others out."""

import json
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.config import SSLConfig
from serving.security import Token
from serving.server import Server
from spinet_tf.errors import SpinetError
from tests.serving.requests import metadata_request, offset, refusal, states, toy_request


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of 127.0.0.1 that vouches for itself."""
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return (folder / "key.pem").read_text(), (folder / "cert.pem").read_text()


def ssl_config(key, cert, **more):
    return SSLConfig(server_key=key, server_cert=cert, **more)


def stub_with(address, credentials):
    channel = grpc.secure_channel(address, credentials)
    return channel, prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_encrypted_requests_are_answered_and_others_not(toys, certificate, connect):
    key, cert = certificate
    # As in a file: text within text.
    config = text_format.Parse(text_format.MessageToString(ssl_config(key, cert)), SSLConfig())
    with Server(toys(1), "toy", port=0, ssl=config) as server:
        channel, stub = stub_with(server.address, grpc.ssl_channel_credentials(cert.encode()))
        with channel:
            assert offset(stub) == 1
        assert refusal(connect(server.address)[0].Predict, toy_request())[0] == "UNAVAILABLE"


def test_clients_without_a_certificate_are_not_answered_where_it_is_asked_for(toys, certificate):
    key, cert = certificate
    config = ssl_config(key, cert, custom_ca=cert, client_verify=True)
    with Server(toys(1), "toy", port=0, ssl=config) as server:
        for given, answered in [((), False), ((key.encode(), cert.encode()), True)]:
            channel, stub = stub_with(server.address, grpc.ssl_channel_credentials(cert.encode(), *given))
            with channel:
                if answered:
                    assert offset(stub) == 1
                else:
                    assert refusal(stub.Predict, toy_request(), timeout=5)[0] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"server_key": "k"}, "Expected server_key and server_cert"),
        ({"server_key": "k", "server_cert": "c", "client_verify": True}, "Expected custom_ca"),
        ({"server_key": "k", "server_cert": "c"}, "Cannot listen on 127.0.0.1:0"),
    ],
)
def test_certificates_that_are_none_are_refused(toys, config, message):
    with pytest.raises(SpinetError, match=message):
        Server(toys(1), "toy", port=0, ssl=SSLConfig(**config))


@pytest.fixture
def token(tmp_path):
    (tmp_path / "token.txt").write_text("abc\nnotes\n")
    return Token(tmp_path / "token.txt")


def test_only_those_who_show_the_token_are_answered(toys, token, connect):
    with Server(toys(1), "toy", port=0, token=token) as server:
        stub, channel = connect(server.address)
        for metadata in [
            None,
            [("authorization", "abc")],
            [("authorization", "Bearer abd")],
            [("token", "Bearer abc")],
        ]:
            code, details = refusal(stub.Predict, toy_request(), metadata=metadata)
            assert (code, details) == (
                "UNAUTHENTICATED",
                "Expected the header 'authorization: Bearer TOKEN' with the server's token.",
            )
            assert refusal(stub.GetModelMetadata, metadata_request(), metadata=metadata)[0] == "UNAUTHENTICATED"
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            states(channel)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            ProtoReflectionDescriptorDatabase(channel).get_services()
        metadata = [("authorization", "Bearer abc")]
        assert stub.Predict(toy_request(), metadata=metadata, timeout=30).model_spec.version.value == 1
        # Probes can show none.
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_only_those_who_show_the_token_are_answered_over_http(toys, token):
    with Server(toys(1), "toy", port=0, rest_api_port=0, metrics_path="/metrics", token=token) as server:
        for path in ("/v1/models/toy", "/metrics"):
            request = urllib.request.Request(f"http://{server.rest_address}{path}")
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(request, timeout=30)
            assert raised.value.code == 401
            assert "authorization: Bearer" in json.loads(raised.value.read())["error"]
            request.add_header("Authorization", "Bearer abc")
            with urllib.request.urlopen(request, timeout=30) as response:
                assert response.status == 200


def test_tokens_are_compared_whole():
    token = Token.__new__(Token)
    token._expected = b"Bearer abc"
    shown = ["Bearer abc", b"Bearer abc", "Bearer ab", "Bearer abcd", "bearer abc", "Bearer \udcff", "", None]
    assert [token.allows(header) for header in shown] == [True, True] + [False] * 6


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "There is none"), (b"\n abc", "There is none"), (b"\xff", "Cannot")]
)
def test_files_without_a_token_are_refused(tmp_path, content, message):
    (tmp_path / "token.txt").write_bytes(content)
    with pytest.raises(SpinetError, match=message):
        Token(tmp_path / "token.txt")
