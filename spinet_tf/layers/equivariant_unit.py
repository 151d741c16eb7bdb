"""The building block that all of the backbone is made of."""

import keras

from spinet_tf.layers.frames import FrameLayer, leaky_relu, mask_frames, per_frame
from spinet_tf.layers.masked_batch_normalization import MaskedBatchNormalization, affine
from spinet_tf.layers.temporal_attention import TemporalAttention


@keras.saving.register_keras_serializable(package="spinet_tf")
class EquivariantUnit(FrameLayer):
    """Shared 3x3 convolution, BN, leaky ReLU, residual temporal self-attention, BN: equivariant to frame order.

    There is no activation after the second BN: where the network has one, it follows the unit.

    With the attribute `remat` set (see `spinet_tf.models.rematerialize`), training keeps the convolution's output and
    what enters the second BN only, and computes what lies between anew for the gradients. The moving statistics are
    outside of what is computed twice. It is an attribute and no argument because it says how to train, not what the
    layer is: saved models do not have it.

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
        self.remat = False
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
        remat = self.remat and training
        x = per_frame(self.convolution, mask_frames(x, mask))
        scale, shift = self.norm_in.coefficients(x, mask=mask, training=training)

        def activate_and_attend(x, scale, shift):
            x = leaky_relu(affine(x, scale, shift))
            return x + self.attention.attend(x, mask)

        x = (keras.remat(activate_and_attend) if remat else activate_and_attend)(x, scale, shift)
        return affine(x, *self.norm_out.coefficients(x, mask=mask, training=training))

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "heads": self.heads}
