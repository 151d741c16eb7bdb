"""The building block that all of the backbone is made of."""

import keras

from spinet_tf.layers.frames import FrameLayer, leaky_relu, mask_frames, per_frame
from spinet_tf.layers.masked_batch_normalization import MaskedBatchNormalization
from spinet_tf.layers.temporal_attention import TemporalAttention


@keras.saving.register_keras_serializable(package="spinet_tf")
class EquivariantUnit(FrameLayer):
    """Shared 3x3 convolution, BN, leaky ReLU, residual temporal self-attention, BN: equivariant to frame order.

    There is no activation after the second BN: where the network has one, it follows the unit.

    Args:
        filters: number of output features.
        heads: number of attention heads.

    Call arguments:
        x: (batch, time, height, width, features).
        mask: (batch, time) bool, true for real frames, or None when all are.
        training: whether BN uses the batch's statistics.

    Returns:
        (batch, time, height, width, filters). What padding frames hold is unspecified but finite.

    Example:
        >>> EquivariantUnit(48)(keras.random.normal((1, 5, 8, 8, 12))).shape
        (1, 5, 8, 8, 48)

    Reference:
        Valsesia & Magli, IGARSS 2022, section 2; the order of the parts as in the published PIUnet code,
        https://github.com/diegovalsesia/piunet.
    """

    def __init__(self, filters, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.heads = heads
        policy = self.dtype_policy
        self.convolution = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name="convolution")
        self.norm_in = MaskedBatchNormalization(dtype=policy, name="norm_in")
        self.attention = TemporalAttention(heads, dtype=policy, name="attention")
        self.norm_out = MaskedBatchNormalization(dtype=policy, name="norm_out")

    def build(self, x_shape):
        features_shape = (None, None, None, None, self.filters)
        self.convolution.build((None, None, None, x_shape[-1]))
        self.norm_in.build(features_shape)
        self.attention.build(features_shape)
        self.norm_out.build(features_shape)

    def call(self, x, mask=None, training=False):
        x = per_frame(self.convolution, mask_frames(x, mask))
        x = leaky_relu(self.norm_in(x, mask=mask, training=training))
        x = x + self.attention(x, mask=mask)
        return self.norm_out(x, mask=mask, training=training)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "heads": self.heads}
