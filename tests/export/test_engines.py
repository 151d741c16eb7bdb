"""A model is opened in any of its forms, and answers the same in each."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from spinet_tf.inference import open_engine
from spinet_tf.inference.engine import as_engine, gives_uncertainty, takes_means
from spinet_tf.tiling import Means
from tests.export.conftest import BANDS
from tests.helpers import assert_close


@pytest.fixture
def asked(rng):
    return {
        "images": rng.integers(1, 9000, (2, 4, 7, 5, len(BANDS)), np.uint16),
        "num_frames": np.array([4, 1], np.int32),
    }


@pytest.mark.parametrize("form", ["keras", "version", "versions", "onnx"])
def test_every_form_answers_as_the_model(form, model, run, version, onnx_file, asked):
    path = {"keras": run.model, "version": version, "versions": version.parent, "onnx": onnx_file}[form]
    engine = open_engine(path)
    assert (engine.band_names, engine.scale) == (BANDS, 4)
    answer = engine.predict(**asked)
    assert answer.dtype == np.float32
    reference = as_engine(model)
    assert_close(answer, reference.predict(**asked))
    assert gives_uncertainty(engine)
    both = engine.predict(**asked, uncertainty=True)
    np.testing.assert_array_equal(both[..., :1], answer)
    assert_close(both[..., 1:], reference.predict(**asked, uncertainty=True)[..., 1:], 1e-3)
    # The padded series alone.
    alone = engine.predict(asked["images"][1:, :1], np.array([1], np.int32))
    assert_close(alone, answer[1:])

    # With means from elsewhere, here from the other series.
    means = engine.find_means(**asked)
    assert takes_means(engine)
    swapped = Means(means.blocks[::-1], np.repeat(means.frames[:, :1], 4, axis=1))
    answer = engine.predict_with_means(**asked, means=swapped)
    assert_close(answer, reference.predict_with_means(**asked, means=swapped))
    both = engine.predict_with_means(**asked, means=swapped, uncertainty=True)
    np.testing.assert_array_equal(both[..., :1], answer)


def test_the_latest_of_several_versions_is_taken(version, tmp_path):
    (tmp_path / "9").symlink_to(version)
    (tmp_path / "10").mkdir()
    (tmp_path / "10" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(SpinetError, match=r"Cannot load .*/10 as a SavedModel"):
        open_engine(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", r"a preset \(tiny-simulated\).*Received: nowhere, which is not there"),
        ("http://127.0.0.1/model", r"Nothing installed opens models at http:// addresses. There is grpc://"),
        (".", "Expected a SavedModel, such as .*Write one: python -m export.saved_model"),
    ],
)
def test_what_is_no_model_is_refused(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpinetError, match=said):
        open_engine(name)


def test_a_damaged_onnx_file_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x12")
    with pytest.raises(SpinetError, match=r"Cannot load .*model\.onnx as an ONNX file"):
        open_engine(tmp_path / "model.onnx")


def test_addresses_are_handed_to_the_package_that_offers_their_scheme(monkeypatch):
    def offered(group):
        assert group == "spinet_tf.engines"
        return [EntryPoint("grpc", f"{__name__}:opened", group)]

    monkeypatch.setattr("spinet_tf.inference.engines.entry_points", offered)
    assert open_engine("grpc://10.0.0.1:8500/crops").address == "10.0.0.1:8500/crops"
    with pytest.raises(SpinetError, match="No server answers at nobody"):
        open_engine("grpc://nobody")


def opened(address):
    if address == "nobody":
        raise ValueError("No server answers at nobody.")
    return SimpleNamespace(address=address)
