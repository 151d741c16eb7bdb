"""Pixel shuffle: features to resolution."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="spinet_tf")
class PixelShuffle(keras.layers.Layer):
    """Rearranges groups of `scale` ** 2 features into an image `scale` times finer.

    Feature c * scale ** 2 + i * scale + j becomes feature c at row offset i and column offset j, as in PyTorch.
    TensorFlow's depth_to_space reads the feature index as (i * scale + j) * C + c and equals it for one output feature
    only.

    Args:
        scale: how many times finer the output is.

    Call arguments:
        x: (batch, height, width, features), features a multiple of `scale` ** 2.

    Returns:
        (batch, scale * height, scale * width, features / scale ** 2).

    Raises:
        ValueError: if `scale` ** 2 does not divide the features.

    Example:
        >>> PixelShuffle(4)(keras.random.normal((1, 8, 8, 768))).shape
        (1, 32, 32, 48)

    Reference:
        Shi et al., https://arxiv.org/abs/1609.05158.
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, x_shape):
        if x_shape[-1] % self.scale**2:
            raise ValueError(f"Expected a multiple of {self.scale**2} features. Received: {x_shape[-1]}")

    def call(self, x):
        return shuffle_pixels(x, self.scale)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def shuffle_pixels(x, scale):
    """What `PixelShuffle` does, as a function."""
    batch, height, width, features = ops.shape(x)
    channels = features // scale**2
    x = ops.reshape(x, (batch, height, width, channels, scale, scale))
    x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
    return ops.reshape(x, (batch, height * scale, width * scale, channels))
