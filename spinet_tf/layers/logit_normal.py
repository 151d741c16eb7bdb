"""A logit that is not known exactly: its mean and variance, and the probability that follows from them."""

import math

import keras
from keras import ops

# The variance at which a normal distribution comes nearest to the logistic one, as MacKay matches them.
_MACKAY = math.pi / 8
# Log variances stay within these bounds: standard deviations from 0.08 to 12 logits.
_BOUND = 5.0


@keras.saving.register_keras_serializable(package="spinet_tf")
class LogitNormal(keras.layers.Layer):
    """Turns mean and log variance of a normal logit into the logit of its expected probability, and its deviation.

    A pixel is cultivated with probability sigmoid(l), and its logit l itself is uncertain: l ~ N(m, exp(s)). What
    everybody wants is the expected probability, the integral of sigmoid(l) N(l; m, exp(s)) over l. MacKay takes the
    sigmoid for the normal distribution's cumulative one of variance 8 / pi, for which the integral is
    sigmoid(m / sqrt(1 + pi / 8 exp(s))); its argument is the marginal logit. The probability is off by less than 0.02.

    One label per pixel says something about the marginal logit only: every pair of mean and variance with the same one
    makes the label equally likely. What tells them apart is the loss, see `spinet_tf.losses.LogitNormalCrossEntropy`.

    The log variance is bounded smoothly, to 5 tanh(s / 5), so that nothing overflows.

    Call arguments:
        x: (..., 2): mean and log variance.

    Returns:
        float32 (..., 2): the marginal logit, and the logit's standard deviation.

    Example:
        >>> LogitNormal()(np.array([[2.0, 0.0]]))  # 2 / sqrt(1 + pi / 8) and exp(0)
        [[1.695, 1.0]]

    Reference:
        Kendall & Gal, section 3.3, https://arxiv.org/abs/1703.04977; MacKay, "The evidence framework applied to
        classification networks", 1992, https://doi.org/10.1162/neco.1992.4.5.720.
    """

    def call(self, x):
        x = ops.cast(x, "float32")
        deviation = ops.exp(_BOUND * ops.tanh(x[..., 1] / _BOUND) / 2)
        return ops.stack([x[..., 0] / widening(deviation), deviation], axis=-1)

    def compute_output_shape(self, x_shape):
        return x_shape


def widening(deviation):
    """How many times nearer to 0 the marginal logit is than the mean, for a standard deviation of the logit."""
    return ops.sqrt(1 + _MACKAY * ops.square(deviation))
