"""Batch normalisation that leaves padding out of its statistics, and takes them over all replicas."""

import keras
from keras import ops

from spinet_tf.layers.frames import FrameLayer, mask_frames
from spinet_tf.layers.replicas import is_replicated, sum_over_replicas


@keras.saving.register_keras_serializable(package="spinet_tf")
class MaskedBatchNormalization(FrameLayer):
    """Batch normalisation over all axes but the last, counting real frames only, those of all replicas together.

    It differs from `keras.layers.BatchNormalization` as the published PIUnet does: epsilon 1e-5, momentum 0.9, and the
    moving variance is updated with the unbiased variance (n / (n - 1)) while the batch is normalised with the biased
    one. Statistics are computed in float32. Under `tf.distribute` they are those of the global batch, so that several
    replicas train as one does.

    Args:
        momentum: how much of the moving statistics each training step keeps.
        epsilon: added to the variance.

    Call arguments:
        x: (batch, time, height, width, features), or (batch, height, width, features).
        mask: (batch, time) or (batch,) bool, true for what is real, or None when all is.
        training: whether the batch's own statistics are used, and the moving ones updated.

    Returns:
        A tensor like `x`. What padding frames hold is unspecified. They may hold anything in `x` too, but must be
        finite where gradients are taken, as they are behind any convolution of this package.

    Example:
        >>> norm = MaskedBatchNormalization()
        >>> norm(keras.random.normal((2, 3, 4, 4, 8)), mask=np.array([[1, 1, 1], [1, 0, 0]], bool)).shape
        (2, 3, 4, 4, 8)

    Reference:
        Ioffe & Szegedy, https://arxiv.org/abs/1502.03167; the statistics as torch.nn.BatchNorm3d keeps them.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, x_shape):
        shape = (x_shape[-1],)
        # autocast=False: under mixed precision the statistics and the affine stay in float32.
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=shape, initializer="zeros", trainable=False, autocast=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=shape, initializer="ones", trainable=False, autocast=False
        )

    def call(self, x, mask=None, training=False):
        return affine(x, *self.coefficients(x, mask=mask, training=training))

    def coefficients(self, x, mask=None, training=False, remat=False):
        """What the layer does to `x`, as a scale and a shift per feature; in training the moving statistics follow.

        With `remat`, nothing of the size of `x` is kept for the gradients.
        """
        if training:
            mean, variance = self._update_statistics(ops.cast(x, "float32"), mask, remat)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return scale, self.beta - mean * scale

    def _update_statistics(self, x, mask, remat):
        """Mean and variance of the batch, on all replicas together; the moving ones follow them."""
        pixels = ops.cast(ops.size(x), "float32") / x.shape[-1]
        if mask is not None:
            pixels = pixels / ops.cast(ops.size(mask), "float32") * ops.sum(ops.cast(mask, "float32"))
        # What one replica would sum over is itself, but not for nothing.
        everywhere = sum_over_replicas if is_replicated(self.moving_mean) else lambda local: local
        sums = everywhere(ops.append(_sum_of_real(x, mask), pixels))
        count = sums[-1]
        divisor = ops.maximum(count, 1.0)
        mean = sums[:-1] / divisor

        def sum_of_squares(x, mean):
            return _sum_of_real(ops.square(x - mean), mask)

        if remat:
            sum_of_squares = keras.remat(sum_of_squares)
        # A change of the mean alone would not change the variance: deviations from it add up to 0.
        variance = everywhere(sum_of_squares(x, ops.stop_gradient(mean))) / divisor
        unbiased = variance * (count / ops.maximum(count - 1.0, 1.0))
        # A batch that is nothing but padding says nothing about the data.
        step = ops.where(count > 0, 1.0 - self.momentum, 0.0)
        self.moving_mean.assign_add(step * (mean - self.moving_mean))
        self.moving_variance.assign_add(step * (unbiased - self.moving_variance))
        return mean, variance

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def affine(x, scale, shift):
    """Scale and shift each feature, in float32; the result has the dtype of `x`."""
    return ops.cast(ops.cast(x, "float32") * scale + shift, x.dtype)


def _sum_of_real(x, mask):
    """Sum of `x` (..., features) over all but its features; `mask` says which of the first axes' entries count."""
    if mask is None:
        return ops.sum(x, axis=tuple(range(len(x.shape) - 1)))
    masked = len(mask.shape)
    # The large sums first: what is left to be masked is small.
    x = mask_frames(ops.sum(x, axis=tuple(range(masked, len(x.shape) - 1))), mask)
    return ops.sum(x, axis=tuple(range(masked)))
