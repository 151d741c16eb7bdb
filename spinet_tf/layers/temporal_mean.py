"""The step from equivariance to invariance: a mean over the real frames."""

import keras

from spinet_tf.layers.frames import FrameLayer, masked_mean


@keras.saving.register_keras_serializable(package="spinet_tf")
class TemporalMean(FrameLayer):
    """Mean over the real frames of each sample.

    Call arguments:
        x: (batch, time, height, width, features).
        mask: (batch, time) bool, true for real frames, or None when all are.

    Returns:
        (batch, height, width, features); zero for a sample without any real frame.

    Example:
        >>> TemporalMean()(keras.random.normal((1, 5, 8, 8, 48))).shape
        (1, 8, 8, 48)

    Reference:
        Valsesia & Magli, IGARSS 2022, section 2.
    """

    def call(self, x, mask=None):
        return masked_mean(x, mask)
