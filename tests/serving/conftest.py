"""A server over a tiny model."""

import pytest
from spinet_client import Client

from export.saved_model import export_saved_model
from serving.server import Server


@pytest.fixture(scope="session")
def model_dir(tiny_spinet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "spinet"
    export_saved_model(tiny_spinet, folder, version=2)
    return folder


@pytest.fixture(scope="session")
def server(model_dir):
    with Server(model_dir, port=0) as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    with Client(server.address) as client:
        yield client
