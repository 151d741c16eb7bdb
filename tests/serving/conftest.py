"""A server over a tiny model, and folders of toys."""

import shutil
import threading
import time

import grpc
import pytest
from spinet_client import Client
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.saved_model import export_saved_model
from serving.server import Server
from tests.serving.toy import write_toy


@pytest.fixture(scope="session")
def model_dir(tiny_spinet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "spinet"
    export_saved_model(tiny_spinet, folder, version=2, warmup_lengths=[3], warmup_sizes=[6])
    return folder


@pytest.fixture(scope="session")
def server(model_dir):
    with Server(model_dir, port=0) as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    with Client(server.address) as client:
        yield client


@pytest.fixture(scope="session")
def written_toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    for version in (1, 2, 3):
        write_toy(folder, version)
    return folder


@pytest.fixture
def toys(written_toys, tmp_path):
    """A function that puts versions of a toy into a folder, and returns it; version N adds N."""

    def put(*versions, name="toy"):
        folder = tmp_path / name
        for version in versions:
            # By renaming, as an export does it.
            shutil.copytree(written_toys / str(version), folder / f".{version}")
            (folder / f".{version}").rename(folder / str(version))
        return folder

    return put


@pytest.fixture
def connect():
    """A function from an address to a stub of the prediction service, and its channel."""
    channels = []

    def open_channel(address):
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        channels.append(grpc.insecure_channel(address, options=options))
        return prediction_service_pb2_grpc.PredictionServiceStub(channels[-1]), channels[-1]

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def until():
    """Waits, for at most half a minute, until a condition holds."""

    def wait(condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            threading.Event().wait(0.005)

    return wait
