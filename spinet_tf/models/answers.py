"""From what a segmentation model returns to probabilities, and to how far these may be off."""

from keras import ops

from spinet_tf.layers.logit_normal import widening


def probability(outputs):
    """The probability of cultivated land: the sigmoid of the first feature, float32 (batch, height, width, 1)."""
    return ops.sigmoid(ops.cast(outputs[..., :1], "float32"))


def uncertainty(outputs):
    """The standard deviation of the probability, given that its logit is normal: p plus or minus that.

    The entropy of p alone tells which pixels are likely to be wrong. This tells what p cannot: how much of the doubt
    neighbours share, because a whole parcel may be taken for another class or has too few clear frames, rather than
    each pixel having its own, as on a boundary. Over a parcel shared doubt adds up, and other doubt averages out.

    With p the expected probability and d the logit's deviation, the variance is p (1 - p) (1 - 1 / sqrt(1 + a d^2)):
    nothing for a known logit, and a label's whole variance for one of which nothing is known. Daunizeau fits a = 0.368;
    here it is pi / 8, as in `spinet_tf.layers.LogitNormal`. The deviation is off by less than 0.06.

    Args:
        outputs: (batch, height, width, 2): marginal logit and standard deviation.

    Returns:
        float32 (batch, height, width, 1), 0 to 0.5.

    Reference:
        Daunizeau, "Semi-analytical approximations to statistical moments of sigmoid and softmax mappings of normal
        variables", 2017, https://arxiv.org/abs/1703.00091.
    """
    outputs = ops.cast(outputs, "float32")
    logit, deviation = outputs[..., :1], outputs[..., 1:]
    variance = ops.sigmoid(logit) * ops.sigmoid(-logit) * (1 - 1 / widening(deviation))
    return ops.sqrt(variance)
