"""Bicubic upsampling by a whole factor, for unknown heights and widths."""

import keras
import numpy as np
from keras import ops

from spinet_tf.layers.pixel_shuffle import shuffle_pixels

# Keys' parameter: the one of PIL, TensorFlow and JAX; OpenCV and PyTorch have -0.75.
_A = -0.5


@keras.saving.register_keras_serializable(package="spinet_tf")
class BicubicUpsampling(keras.layers.Layer):
    """Bicubic interpolation with Keys' kernel, a = -0.5, half-pixel centres, and weights renormalised at the edges.

    It equals PIL's `Image.resize` and, where sizes are known, `keras.ops.image.resize`, which fails in graph mode when
    they are not. As in `BilinearUpsampling` a depthwise convolution, here of 5x5 pixels, and a pixel shuffle do it.

    Args:
        scale: how many times finer the output is.

    Call arguments:
        x: (batch, height, width, features).

    Returns:
        (batch, scale * height, scale * width, features).

    Example:
        >>> BicubicUpsampling(4)(keras.random.normal((1, 8, 8, 12))).shape
        (1, 32, 32, 12)

    Reference:
        Keys, https://doi.org/10.1109/TASSP.1981.1163711.
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x):
        # Beyond the edges nothing has any weight, and what has some is to add up to 1.
        shares = _interpolate(ops.ones_like(x[:1, :, :, :1]), self.scale)
        return _interpolate(x, self.scale) / shares

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def _interpolate(x, scale):
    x = ops.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    mixes = _mixes(scale)
    kernel = np.einsum("ai,bj->abij", mixes, mixes).reshape(5, 5, 1, scale**2)
    kernel = np.tile(kernel, (1, 1, x.shape[-1], 1))
    return shuffle_pixels(ops.depthwise_conv(x, ops.cast(kernel, x.dtype)), scale)


def _mixes(scale):
    """What each of 5 pixels in a row weighs in the `scale` output pixels of the middle one: (5, scale)."""
    offsets = (np.arange(scale) + 0.5) / scale - 0.5
    distance = np.abs(np.arange(-2, 3)[:, None] - offsets)
    near = (_A + 2) * distance**3 - (_A + 3) * distance**2 + 1
    far = _A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
