"""The client as an engine of spinet_tf, at addresses such as grpc://host:port/name."""

from importlib.metadata import entry_points

import grpc
import numpy as np
import pytest
from spinet_client import ServingError
from spinet_client.engine import open_engine

from tests.serving.client.fake import BANDS, SCALE, MeanEngine


def test_an_engine_answers_as_the_server(fake):
    engine = open_engine(f"{fake.address}/fields/stable")
    assert (engine.band_names, engine.scale) == (BANDS, SCALE)
    images = np.full((2, 3, 4, 5, 3), 2500, np.uint16)
    num_frames = np.array([3, 1], np.int32)
    np.testing.assert_array_equal(engine.predict(images, num_frames), MeanEngine().predict(images, num_frames))
    engine.close()
    # Bands and scale are asked once, before anything else.
    assert [request.model_spec.signature_name for request in fake.requests] == ["describe", "serving_default"]
    assert {(request.model_spec.name, request.model_spec.version_label) for request in fake.requests} == {
        ("fields", "stable")
    }


def test_an_open_engine_outlasts_a_server_that_is_gone(fake, hasty):
    engine = open_engine(f"{fake.address}/spinet")
    fake.failures = [(grpc.StatusCode.UNAVAILABLE, "gone")] * 50
    assert engine.predict(np.ones((1, 1, 2, 2, 3), np.uint16), np.array([1])).shape == (1, 4, 4, 1)
    engine.close()


def test_secrets_come_from_the_environment(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("SPINET_TOKEN", "secret")
    open_engine(f"{fake.address}/spinet").close()
    assert fake.metadata[0]["authorization"] == "Bearer secret"
    monkeypatch.setenv("SPINET_ROOT_CERTIFICATE", str(tmp_path / "ca.pem"))
    with pytest.raises(ServingError, match=r"Cannot read .*ca\.pem"):
        open_engine(f"{fake.address}/spinet")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1/spinet", "No server answers at 127.0.0.1:1"),
        ("127.0.0.1:8500", "Expected a model as name"),
        ("127.0.0.1:8500/", "Expected a model as name"),
        ("127.0.0.1:8500/a/b/c", "Expected a model as name"),
        ("localhost/spinet", "Expected host:port"),
    ],
)
def test_other_addresses_are_refused(hasty, address, message):
    with pytest.raises(ServingError, match=message):
        open_engine(address)


def test_spinet_tf_finds_it():
    (entry,) = entry_points(group="spinet_tf.engines", name="grpc")
    assert entry.load() is open_engine
