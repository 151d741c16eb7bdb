"""A model of a fixed number of frames takes any number."""

import keras
import numpy as np
import pytest

from spinet_tf import RAMS
from spinet_tf.models import FixedLength
from tests.helpers import assert_close, graph, randomize


@pytest.fixture(scope="module")
def model():
    return randomize(RAMS(bands=["B04", "B08"], scale=2, filters=4, blocks=0, squeeze=2, frames=3))


@pytest.fixture(scope="module")
def run(model):
    return graph(FixedLength(model))


@pytest.mark.parametrize("time", [1, 2, 3, 4, 7])
def test_takes_the_first_frames_and_pads(model, run, time, rng):
    images = rng.normal(size=(2, time, 3, 4, 2)).astype("float32")
    mask = np.arange(time) < [[time], [max(time - 1, 1)]]
    given, real = np.full((2, 3, 3, 4, 2), np.nan, "float32"), np.zeros((2, 3), bool)
    given[:, :time], real[:, :time] = images[:, :3], mask[:, :3]
    assert_close(run({"images": images, "frame_mask": mask}), model({"images": given, "frame_mask": real}), 1e-5)


def test_survives_saving(model, tmp_path, rng):
    wrapped = FixedLength(model)
    wrapped.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.band_names, again.scale) == (("B04", "B08"), 2)
    inputs = {"images": rng.normal(size=(1, 2, 3, 4, 2)).astype("float32"), "frame_mask": np.ones((1, 2), bool)}
    np.testing.assert_array_equal(again(inputs), wrapped(inputs))
