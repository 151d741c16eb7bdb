"""Per-band standardisation whose statistics travel with the model."""

import keras
import numpy as np
from keras import ops

from spinet_tf.layers.frames import FrameLayer, mask_frames


@keras.saving.register_keras_serializable(package="spinet_tf")
class ReflectanceNormalization(FrameLayer):
    """Subtracts each band's mean and divides by its standard deviation; padding frames become zero first.

    The statistics are weights that are not trained, so they are saved with the model. The layer computes in float32
    under every dtype policy: reflectance in bfloat16 would keep two digits only.

    Args:
        mean: one number per band, in the units of the input (reflectance); None for 0.
        std: one positive number per band, in the same units; None for 1.

    Call arguments:
        x: (batch, time, height, width, bands) float32.
        mask: (batch, time) bool, true for real frames, or None when all are.

    Returns:
        float32 tensor like `x`; padding frames hold the same finite value whatever they held.

    Raises:
        ValueError: if `mean` or `std` has not one number per band, or a `std` is not positive.

    Example:
        >>> ReflectanceNormalization(mean=[0.1] * 12, std=[0.05] * 12)(np.full((1, 2, 4, 4, 12), 0.1)).shape
        (1, 2, 4, 4, 12)
    """

    def __init__(self, mean=None, std=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.mean = None if mean is None else [float(value) for value in mean]
        self.std = None if std is None else [float(value) for value in std]
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ValueError(f"Expected positive standard deviations. Received: {self.std}")

    def build(self, x_shape):
        bands = x_shape[-1]
        for name, values in (("means", self.mean), ("standard deviations", self.std)):
            if values is not None and len(values) != bands:
                raise ValueError(f"Expected {bands} {name}, one per band. Received: {len(values)}")
        self.band_mean = self.add_weight(name="mean", shape=(bands,), initializer=_given(self.mean, 0), trainable=False)
        self.band_std = self.add_weight(name="std", shape=(bands,), initializer=_given(self.std, 1), trainable=False)

    def call(self, x, mask=None):
        return (mask_frames(x, mask) - self.band_mean) / self.band_std

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


def _given(values, otherwise):
    def initializer(shape, dtype=None):
        return ops.convert_to_tensor(np.broadcast_to(otherwise if values is None else values, shape), dtype=dtype)

    return initializer
