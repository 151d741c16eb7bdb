"""Models of a fixed number of frames, for series of any length."""

import keras
from keras import ops

from spinet_tf.layers.frames import FrameLayer
from spinet_tf.models.backbone import count_bands, frames_input


@keras.saving.register_keras_serializable(package="spinet_tf")
class FixedLength(keras.Model):
    """Lets a model of a fixed number of frames, such as `RAMS` or `DeepSUM`, take ragged series as `SPInet` does.

    Of a longer series it takes the first frames; which are worth taking is for the caller to say, for example with
    `frames="clearest"` of `spinet_tf.predict_scene`. A shorter one is followed by frames that its mask calls padding.

    Args:
        model: with the attributes `frames`, `bands`, `band_names` and `scale`.

    Call arguments:
        A dictionary of "images", float32 (batch, time, height, width, bands), and "frame_mask", bool (batch, time).

    Returns:
        What the model returns.

    Example:
        >>> model = FixedLength(RAMS(filters=8, blocks=2))
        >>> inputs = {"images": np.zeros((1, 5, 8, 8, 12), "float32"), "frame_mask": np.ones((1, 5), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 32, 32, 1)
    """

    def __init__(self, model, name="fixed_length"):
        inputs = frames_input(count_bands(model.bands))
        taken = {
            key: FirstFrames(model.frames, dtype=tensor.dtype, name=f"first_{key}")(tensor)
            for key, tensor in inputs.items()
        }
        super().__init__(inputs=inputs, outputs=model(taken), name=name)
        self.model = model
        self.bands = model.bands
        self.band_names = model.band_names
        self.scale = model.scale

    def get_config(self):
        return {"model": keras.saving.serialize_keras_object(self.model), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


@keras.saving.register_keras_serializable(package="spinet_tf")
class FirstFrames(FrameLayer):
    """The first frames of a series, and zeros after a shorter one.

    Args:
        frames: how many.

    Call arguments:
        x: (batch, time, ...).

    Returns:
        (batch, frames, ...); false stands for zero.
    """

    def __init__(self, frames, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def call(self, x):
        rest = [(0, 0)] * (len(x.shape) - 2)
        return ops.pad(x, ((0, 0), (0, self.frames), *rest))[:, : self.frames]

    def compute_output_shape(self, x_shape):
        return (x_shape[0], self.frames, *x_shape[2:])

    def get_config(self):
        return {**super().get_config(), "frames": self.frames}
