"""A few small simulated scenes, and a model that learns in an instant."""

import keras
import pytest
from keras import ops

from spinet_tf.data.simulate import simulate_eopatch


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder of three EOPatches of 16x18 pixels and 8 dates."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(3):
        simulate_eopatch(folder / f"eopatch-{number}", seed=[6, number], size=(16, 18), dates=8)
    return folder


@keras.saving.register_keras_serializable(package="tests")
class PixelModel(keras.Model):
    """Logits from each pixel's mean over frames: the network's interface with hardly any network."""

    def __init__(self, bands=12, scale=4, **kwargs):
        super().__init__(**kwargs)
        self.bands = bands
        self.scale = scale
        self.dense = keras.layers.Dense(1)

    def build(self, shapes):
        self.dense.build((None, None, None, self.bands))

    def call(self, inputs):
        weight = ops.cast(inputs["frame_mask"], "float32")[:, :, None, None, None]
        mean = ops.sum(inputs["images"] * weight, axis=1) / ops.sum(weight, axis=1)
        logits = ops.repeat(ops.repeat(self.dense(mean), self.scale, axis=1), self.scale, axis=2)
        return logits

    def get_config(self):
        return {**super().get_config(), "bands": self.bands, "scale": self.scale}


@pytest.fixture
def pixel_model(monkeypatch):
    """Training then builds a PixelModel instead of SPInet."""

    class FakeSPInet:
        @staticmethod
        def named(configuration, bands, scale, mean, std, dtype):
            model = PixelModel(len(bands), scale)
            model.build({"images": (None, None, None, None, len(bands)), "frame_mask": (None, None)})
            return model

    monkeypatch.setattr("training.network.SPInet", FakeSPInet)
