"""Bilinear upsampling by a whole factor, for unknown heights and widths."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="spinet_tf")
class BilinearUpsampling(keras.layers.Layer):
    """Bilinear interpolation with half-pixel centres and clamped edges (align_corners=False).

    `keras.layers.UpSampling2D` fails in graph mode when height and width are unknown; each of the `scale` output phases
    is a fixed mix of a pixel and one neighbour, so slices do it everywhere.

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
    return _upsample(_upsample(x, scale, axis=1), scale, axis=2)


def _upsample(x, scale, axis):
    first, last = (slice(None),) * axis + (slice(0, 1),), (slice(None),) * axis + (slice(-1, None),)
    body, rest = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(0, -1),)
    before = ops.concatenate([x[first], x[rest]], axis=axis)
    after = ops.concatenate([x[body], x[last]], axis=axis)
    phases = []
    for phase in range(scale):
        offset = (phase + 0.5) / scale - 0.5  # of this phase's centre from the input pixel's, in input pixels
        neighbour = before if offset < 0 else after
        phases.append((1 - abs(offset)) * x + abs(offset) * neighbour)
    shape = list(ops.shape(x))
    shape[axis] = shape[axis] * scale
    return ops.reshape(ops.stack(phases, axis=axis + 1), shape)
