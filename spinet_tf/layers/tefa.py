"""TEFA: Temporally-Equivariant Feature Attention."""

import keras
from keras import ops

from spinet_tf.layers.equivariant_unit import EquivariantUnit
from spinet_tf.layers.frames import FrameLayer, known_or, leaky_relu, masked_mean, spatial_mean


@keras.saving.register_keras_serializable(package="spinet_tf")
class TEFA(FrameLayer):
    """Two equivariant units, a gate per feature, and a residual.

    The gate is common to all frames and pixels of a sample: the second unit's mean over both goes through a small
    bottleneck and a sigmoid, and multiplies the unit's output before the block's input is added.

    Args:
        filters: number of features, equal to the input's.
        bottleneck: number of features inside the gate; 6 in the paper.
        heads: number of attention heads.

    Call arguments:
        x: (batch, time, height, width, filters).
        mask: (batch, time) bool, true for real frames, or None when all are.
        training: whether BN uses the batch's statistics.

    Returns:
        A tensor like `x`. What padding frames hold is unspecified.

    Raises:
        ValueError: if the input has not `filters` features.

    Example:
        >>> TEFA(48, bottleneck=6)(keras.random.normal((1, 5, 8, 8, 48))).shape
        (1, 5, 8, 8, 48)

    Reference:
        Valsesia & Magli, IGARSS 2022, section 2; PIUnet, https://arxiv.org/abs/2105.12409.
    """

    def __init__(self, filters, bottleneck, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.bottleneck = bottleneck
        self.heads = heads
        policy = self.dtype_policy
        self.unit_1 = EquivariantUnit(filters, heads, dtype=policy, name="unit_1")
        self.unit_2 = EquivariantUnit(filters, heads, dtype=policy, name="unit_2")
        self.squeeze = keras.layers.Dense(bottleneck, dtype=policy, name="squeeze")
        self.excite = keras.layers.Dense(filters, dtype=policy, name="excite")

    def build(self, x_shape):
        if x_shape[-1] != self.filters:
            raise ValueError(f"Expected {self.filters} features. Received: {x_shape[-1]}")
        self.unit_1.build(x_shape)
        self.unit_2.build(x_shape)
        self.squeeze.build((None, self.filters))
        self.excite.build((None, self.bottleneck))

    def call(self, x, mask=None, training=False):
        y = self._features(x, mask, training)
        return x + y * self._gate(self._mean(y, mask))

    def call_with_mean(self, x, mask, mean):
        """At inference, as `call`, but with the mean behind the gate from elsewhere: of a scene that `x` is a tile of.

        Args:
            x: (batch, time, height, width, filters).
            mask: (batch, time) bool, true for real frames.
            mean: (batch, filters) float32; where it is NaN, the mean of `x` itself is taken.

        Returns:
            A tensor like `x`; and the mean of `x` itself, (batch, filters) float32.
        """
        y = self._features(x, mask, training=False)
        own = self._mean(y, mask)
        return x + y * self._gate(known_or(mean, own)), own

    def _features(self, x, mask, training):
        y = leaky_relu(self.unit_1(x, mask=mask, training=training))
        return self.unit_2(y, mask=mask, training=training)

    def _mean(self, y, mask):
        return masked_mean(spatial_mean(y), mask)

    def _gate(self, mean):
        gate = ops.sigmoid(self.excite(leaky_relu(self.squeeze(mean))))
        return ops.reshape(gate, (-1, 1, 1, 1, self.filters))

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        config = {"filters": self.filters, "bottleneck": self.bottleneck, "heads": self.heads}
        return {**super().get_config(), **config}
