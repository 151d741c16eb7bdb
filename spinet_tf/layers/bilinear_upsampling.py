"""Bilinear upsampling by a whole factor, for unknown heights and widths."""

import keras
import numpy as np
from keras import ops

from spinet_tf.layers.pixel_shuffle import shuffle_pixels


@keras.saving.register_keras_serializable(package="spinet_tf")
class BilinearUpsampling(keras.layers.Layer):
    """Bilinear interpolation with half-pixel centres and clamped edges (align_corners=False).

    `keras.layers.UpSampling2D` fails in graph mode when height and width are unknown. Each of the `scale` ** 2 output
    pixels of an input pixel is a fixed mix of its 3x3 neighbourhood, so a depthwise convolution and a pixel shuffle do
    it everywhere.

    Args:
        scale: how many times finer the output is.

    Call arguments:
        x: (batch, height, width, features).

    Returns:
        (batch, scale * height, scale * width, features).

    Example:
        >>> BilinearUpsampling(2)(keras.random.normal((1, 8, 8, 48))).shape
        (1, 16, 16, 48)
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x):
        return upsample_bilinear(x, self.scale)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def upsample_bilinear(x, scale):
    """What `BilinearUpsampling` does, as a function."""
    features = x.shape[-1]
    x = ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
    x = ops.concatenate([x[:, :, :1], x, x[:, :, -1:]], axis=2)
    # Feature by feature, the output pixels of each input pixel in rows: the order that a pixel shuffle takes.
    kernel = np.tile(_mixes(scale), (1, 1, features, 1))
    return shuffle_pixels(ops.depthwise_conv(x, ops.cast(kernel, x.dtype)), scale)


def _mixes(scale):
    """How the 3x3 neighbourhood of an input pixel makes its scale x scale output pixels: (3, 3, 1, scale ** 2)."""
    # Of an output pixel's centre from the input pixel's, in input pixels.
    offsets = (np.arange(scale) + 0.5) / scale - 0.5
    mixes = np.stack([np.maximum(-offsets, 0), 1 - np.abs(offsets), np.maximum(offsets, 0)])
    return np.einsum("ai,bj->abij", mixes, mixes).reshape(3, 3, 1, scale**2)
