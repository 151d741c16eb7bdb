"""What every layer over (batch, time, height, width, features) needs: sharing a layer over time, and the frame mask."""

import keras
from keras import ops

# The slope of every leaky ReLU in the published PIUnet code.
NEGATIVE_SLOPE = 0.01


class FrameLayer(keras.layers.Layer):
    """A layer that is given the frame mask by its caller, never by Keras.

    Keras would attach the mask to the output and hand it to every later layer and to the loss, whose axes it does not
    fit.
    """

    def compute_mask(self, inputs, previous_mask):
        return None


def leaky_relu(x):
    """Leaky ReLU with the slope of the published code."""
    return ops.leaky_relu(x, negative_slope=NEGATIVE_SLOPE)


def per_frame(layer, x):
    """Apply a 2D `layer` to every frame of `x` (batch, time, height, width, features), sharing its weights.

    `TimeDistributed` is not used: it is wrong for an unknown number of frames.
    """
    batch, time, height, width, features = ops.shape(x)
    y = layer(ops.reshape(x, (-1, height, width, features)))
    _, height, width, features = ops.shape(y)
    return ops.reshape(y, (batch, time, height, width, features))


def _broadcastable(mask, x):
    return ops.reshape(mask, (*ops.shape(mask), *([1] * (len(x.shape) - len(mask.shape)))))


def mask_frames(x, mask):
    """Set the padding frames of `x` (batch, time, ...) to zero, whatever they hold, NaN and infinity included.

    Padding must be zero before the first product with it: 0 * NaN is NaN, in the gradients too.
    """
    if mask is None:
        return x
    return ops.where(_broadcastable(mask, x), x, ops.zeros((), dtype=x.dtype))


def masked_mean(x, mask):
    """Mean over the real frames of `x` (batch, time, ...); zero for a sample that has none. Summed in float32."""
    dtype = x.dtype
    x = ops.cast(x, "float32")
    if mask is None:
        mean = ops.mean(x, axis=1)
    else:
        count = ops.sum(ops.cast(mask, "float32"), axis=1)
        count = ops.reshape(ops.maximum(count, 1.0), (-1, *([1] * (len(x.shape) - 2))))
        mean = ops.sum(mask_frames(x, mask), axis=1) / count
    return ops.cast(mean, dtype)


def spatial_mean(x):
    """Mean over the pixels of `x` (batch, time, height, width, features), float32 (batch, time, features)."""
    return ops.mean(ops.cast(x, "float32"), axis=(2, 3))


def known_or(given, own):
    """What was `given`, and where that is NaN, `own`."""
    return ops.where(ops.isnan(given), own, given)
