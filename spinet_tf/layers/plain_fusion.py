"""The ablation of the paper's table 2: no multi-resolution fusion."""

import math

import keras

from spinet_tf.layers.frames import FrameLayer
from spinet_tf.layers.masked_batch_normalization import MaskedBatchNormalization


@keras.saving.register_keras_serializable(package="spinet_tf")
class PlainFusion(FrameLayer):
    """Two 3x3 convolutions with BN and ReLU at full resolution, then a projection to logits.

    Where the paper leaves it open: both convolutions have the same width, chosen so that the block has as many
    parameters as `MultiResolutionFusion(filters)` (within 5 %; 226 for the paper's 48).

    Args:
        filters: the `filters` of the fusion block that it replaces.
        outputs: how many numbers each pixel is projected to.

    Call arguments:
        x: (batch, height, width, features).
        mask: (batch,) bool, false for samples that BN's statistics leave out, or None when all count.
        training: whether BN uses the batch's statistics.

    Returns:
        Logits (batch, height, width, outputs) in float32.

    Example:
        >>> PlainFusion(48)(keras.random.normal((1, 36, 28, 48))).shape
        (1, 36, 28, 1)

    Reference:
        Valsesia & Magli, IGARSS 2022, section 3.2 and table 2.
    """

    def __init__(self, filters, outputs=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.outputs = outputs
        policy = self.dtype_policy
        self.width = _width_of_equal_size(filters)
        self.convolution_1 = keras.layers.Conv2D(self.width, 3, padding="same", dtype=policy, name="convolution_1")
        self.norm_1 = MaskedBatchNormalization(dtype=policy, name="norm_1")
        self.convolution_2 = keras.layers.Conv2D(self.width, 3, padding="same", dtype=policy, name="convolution_2")
        self.norm_2 = MaskedBatchNormalization(dtype=policy, name="norm_2")
        # Logits in float32 under every policy: the loss needs them.
        self.projection = keras.layers.Conv2D(outputs, 1, dtype="float32", name="projection")

    def build(self, x_shape):
        hidden_shape = (None, None, None, self.width)
        self.convolution_1.build((None, None, None, x_shape[-1]))
        for layer in (self.norm_1, self.convolution_2, self.norm_2, self.projection):
            layer.build(hidden_shape)

    def call(self, x, mask=None, training=False):
        x = keras.ops.relu(self.norm_1(self.convolution_1(x), mask=mask, training=training))
        x = keras.ops.relu(self.norm_2(self.convolution_2(x), mask=mask, training=training))
        return self.projection(x)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.outputs)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "outputs": self.outputs}


def _width_of_equal_size(filters):
    """The width w at which 9 w^2 + (9 filters + 7) w + 1 parameters equal those of the fusion block."""
    f = filters
    # Convolutions of 3, 3, 4 and 8 squared, four of 3x3 over 4 f features, their biases, eight BN, the projection.
    fusion = f * f * (9 + 9 + 16 + 64) + 4 * (4 * f * f * 9) + 8 * f + 8 * 2 * f + 4 * f + 1
    linear = 9 * f + 7
    return round((math.sqrt(linear**2 + 36 * (fusion - 1)) - linear) / 18)
