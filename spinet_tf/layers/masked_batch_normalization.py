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

    def coefficients(self, x, mask=None, training=False):
        """What the layer does to `x`, as a scale and a shift per feature; in training the moving statistics follow.

        Nothing of the size of `x` but `x` itself is kept for the gradients.
        """
        mean, variance = self._update_statistics(x, mask) if training else (self.moving_mean, self.moving_variance)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return scale, self.beta - mean * scale

    def _update_statistics(self, x, mask):
        """Mean and variance of the batch, on all replicas together; the moving ones follow them."""
        real = ops.ones((1,)) if mask is None else ops.cast(mask, "float32")
        total, squares = ops.unstack(_sums_of_real(x, real), 2)
        pixels = ops.cast(ops.size(x), "float32") / x.shape[-1] / ops.cast(ops.size(real), "float32") * ops.sum(real)
        if is_replicated(self.moving_mean):
            own_mean = total / ops.maximum(pixels, 1.0)
            sums = sum_over_replicas(ops.append(total, pixels))
            total, count = sums[:-1], sums[-1]
            mean = total / ops.maximum(count, 1.0)
            # Chan et al., https://doi.org/10.1080/00031305.1983.10483115: from deviations from another mean.
            squares = sum_over_replicas(squares + pixels * ops.square(own_mean - mean))
        else:
            count = pixels
            mean = total / ops.maximum(count, 1.0)
        variance = squares / ops.maximum(count, 1.0)
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


@ops.custom_gradient
def _sums_of_real(x, real):
    """Of all but the features of `x` (..., features): the sum, and that of the squared deviations from its mean.

    The deviations add up to 0, so a change of the mean alone would not change their squares, and the gradient is a
    scale and a shift of `x` for each feature: fewer passes than through the deviations, which need not be kept.

    Args:
        x: what is summed.
        real: float32, 1 for what counts of the first axes of `x`, 0 for padding, which may hold anything.

    Returns:
        (2, features) float32.
    """
    axes = tuple(range(len(real.shape)))
    pixels = tuple(range(len(axes), len(x.shape) - 1))

    def of_real(values):
        # The large sums first: what is left to be masked is small.
        return ops.sum(mask_frames(ops.sum(values, axis=pixels), real > 0), axis=axes)

    values = ops.cast(x, "float32")
    count = ops.cast(ops.size(x), "float32") / x.shape[-1] / ops.cast(ops.size(real), "float32") * ops.sum(real)
    total = of_real(values)
    mean = total / ops.maximum(count, 1.0)
    sums = ops.stack([total, of_real(ops.square(values - mean))])

    def gradient(upstream):
        of_total, of_squares = ops.unstack(upstream, 2)
        weight = ops.reshape(real, (*ops.shape(real), *([1] * (len(x.shape) - len(axes)))))
        scale = 2.0 * weight * of_squares
        shift = weight * of_total - scale * mean
        return affine(x, scale, shift), ops.zeros_like(real)

    return sums, gradient
