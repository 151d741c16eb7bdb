"""TERN: Temporally-Equivariant RegNet."""

import keras
from keras import ops

from spinet_tf.layers.equivariant_unit import EquivariantUnit
from spinet_tf.layers.frames import FrameLayer, known_or, leaky_relu, mask_frames, spatial_mean


@keras.saving.register_keras_serializable(package="spinet_tf")
class TERN(FrameLayer):
    """Proposes one small filter per frame, which registers the frame, and applies it to all features of that frame.

    The filters come from an equivariant unit over the input, its mean over each frame and a dense layer; they are
    neither normalised nor made to sum to one. They are applied to the input as a cross-correlation with zero padding,
    and the result replaces the input: there is no residual.

    Args:
        filters: number of features, equal to the input's.
        kernel_size: side of the filters; 5 in the published code.
        heads: number of attention heads.

    Call arguments:
        x: (batch, time, height, width, filters).
        mask: (batch, time) bool, true for real frames, or None when all are.
        training: whether BN uses the batch's statistics.

    Returns:
        A tensor like `x`. What padding frames hold is unspecified but finite.

    Raises:
        ValueError: if the input has not `filters` features.

    Example:
        >>> TERN(48)(keras.random.normal((1, 5, 8, 8, 48))).shape
        (1, 5, 8, 8, 48)

    Reference:
        Valsesia & Magli, IGARSS 2022, section 2; PIUnet, https://arxiv.org/abs/2105.12409.
    """

    def __init__(self, filters, kernel_size=5, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.heads = heads
        policy = self.dtype_policy
        self.unit = EquivariantUnit(filters, heads, dtype=policy, name="unit")
        self.proposal = keras.layers.Dense(kernel_size**2, dtype=policy, name="proposal")

    def build(self, x_shape):
        if x_shape[-1] != self.filters:
            raise ValueError(f"Expected {self.filters} features. Received: {x_shape[-1]}")
        self.unit.build(x_shape)
        self.proposal.build((None, None, self.filters))

    def call(self, x, mask=None, training=False):
        x = mask_frames(x, mask)
        return apply_kernels(x, self.propose_kernels(x, mask=mask, training=training))

    def propose_kernels(self, x, mask=None, training=False):
        """One filter per frame, row by row: (batch, time, kernel_size ** 2)."""
        return self.proposal(spatial_mean(self._features(x, mask, training)))

    def call_with_means(self, x, mask, means):
        """At inference, as `call`, but with the means behind the filters from elsewhere.

        Args:
            x: (batch, time, height, width, filters).
            mask: (batch, time) bool, true for real frames.
            means: (batch, time, filters) float32; where they are NaN, those of `x` itself are taken.

        Returns:
            A tensor like `x`; and the means of `x` itself, (batch, time, filters) float32.
        """
        x = mask_frames(x, mask)
        own = spatial_mean(self._features(x, mask, training=False))
        return apply_kernels(x, self.proposal(known_or(means, own))), own

    def _features(self, x, mask, training):
        return leaky_relu(self.unit(x, mask=mask, training=training))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        config = {"filters": self.filters, "kernel_size": self.kernel_size, "heads": self.heads}
        return {**super().get_config(), **config}


def apply_kernels(x, kernels):
    """Correlate every frame of `x` with its own filter.

    Args:
        x: (batch, time, height, width, features).
        kernels: (batch, time, k * k), row by row.

    Returns:
        A tensor like `x`; zeros are assumed outside.
    """
    batch, time, height, width, features = ops.shape(x)
    side = round(kernels.shape[-1] ** 0.5)
    # A depthwise convolution has one filter per channel: take frames as its channels and features as its batch.
    frames = ops.transpose(ops.reshape(x, (batch * time, height, width, features)), (3, 1, 2, 0))
    filters = ops.reshape(ops.transpose(ops.reshape(kernels, (-1, side * side))), (side, side, -1, 1))
    y = ops.depthwise_conv(frames, filters, padding="same")
    return ops.reshape(ops.transpose(y, (3, 1, 2, 0)), (batch, time, height, width, features))
