"""Losses for image super-resolution of unregistered targets, as the published PIUnet trains with."""

import keras
from keras import ops

# How far, in target pixels, a prediction may be off its target each way.
BORDER = 3


def registered_crops(values, mask):
    """Every crop of a target that a prediction, cropped by `BORDER` on each side, may be compared with.

    Args:
        values: (batch, height, width).
        mask: (batch, height, width), 1 where the target is clear.

    Returns:
        Lists of 49 crops of `values` and of `mask`, rows outer, columns inner.
    """
    _, height, width = ops.shape(values)
    rows, columns = height - 2 * BORDER, width - 2 * BORDER
    offsets = [(i, j) for i in range(2 * BORDER + 1) for j in range(2 * BORDER + 1)]
    return tuple([image[:, i : i + rows, j : j + columns] for i, j in offsets] for image in (values, mask))


def cropped(prediction):
    """`prediction` (batch, height, width) without `BORDER` pixels on each side."""
    return prediction[:, BORDER:-BORDER, BORDER:-BORDER]


def brightness_bias(target, mask, prediction):
    """What has to be added to each sample's prediction so that its masked mean equals the target's: (batch, 1, 1)."""
    difference = ops.sum(mask * (target - prediction), axis=(1, 2), keepdims=True)
    return difference / ops.sum(mask, axis=(1, 2), keepdims=True)


def _masked_mean(values, mask):
    return ops.sum(mask * values, axis=(1, 2)) / ops.sum(mask, axis=(1, 2))


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegisteredL1(keras.losses.Loss):
    """Absolute error per clear pixel, after the best shift and brightness for each sample.

    The prediction, cropped by 3 pixels, is compared with all 49 crops of its target; each time a brightness bias is
    added first; the smallest error counts. PIUnet's first epoch is trained with it.

    Call arguments:
        y_true: (batch, height, width, 2): target, and mask, 1 where it is clear. A sample without a clear pixel in some
            crop gives NaN.
        y_pred: (batch, height, width, 2): mean, and log scale, which is not used.

    Returns:
        The mean over the batch.

    Reference:
        Valsesia & Magli, https://arxiv.org/abs/2105.12409; https://github.com/diegovalsesia/piunet, losses.py.
    """

    def __init__(self, name="registered_l1", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        mean = cropped(y_pred[..., 0])
        errors = []
        for target, mask in zip(*registered_crops(y_true[..., 0], y_true[..., 1]), strict=True):
            bias = brightness_bias(target, mask, mean)
            errors.append(_masked_mean(ops.abs(target - mean - bias), mask))
        return ops.min(ops.stack(errors), axis=0)


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegisteredLaplace(keras.losses.Loss):
    """Negative log-likelihood of a Laplace distribution, after the best shift and brightness for each sample.

    As in the published code, the brightness bias is added to the log scale too.

    Call arguments:
        y_true: (batch, height, width, 2): target, and mask, 1 where it is clear. A sample without a clear pixel in some
            crop gives NaN.
        y_pred: (batch, height, width, 2): mean, and log scale, as `PIUnet` gives them.

    Returns:
        The mean over the batch.

    Reference:
        Valsesia & Magli, https://arxiv.org/abs/2105.12409; https://github.com/diegovalsesia/piunet, losses.py.
    """

    def __init__(self, name="registered_laplace", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        mean, log_scale = cropped(y_pred[..., 0]), cropped(y_pred[..., 1])
        losses = []
        for target, mask in zip(*registered_crops(y_true[..., 0], y_true[..., 1]), strict=True):
            bias = brightness_bias(target, mask, mean)
            biased_scale = log_scale + bias
            losses.append(_masked_mean(biased_scale + ops.abs(target - mean - bias) * ops.exp(-biased_scale), mask))
        return ops.min(ops.stack(losses), axis=0)
