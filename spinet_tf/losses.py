"""Losses: soft Matthews' correlation for maps of two classes; for super-resolution of unregistered targets PIUnet's."""

import math

import keras
import numpy as np
from keras import ops

from spinet_tf.errors import SpinetError
from spinet_tf.layers.logit_normal import widening
from spinet_tf.layers.multi_resolution_fusion import extend
from spinet_tf.layers.replicas import sum_over_replicas
from spinet_tf.matthews import matthews_corrcoef_from_counts

# How far, in target pixels, a prediction may be off its target each way.
BORDER = 3


def registered_crops(values, mask):
    """Every crop of a target that a prediction, cropped by `BORDER` on each side, may be compared with.

    Args:
        values: (batch, height, width).
        mask: (batch, height, width), 1 where the target is clear.

    Returns:
        Lists of 49 crops of `values` and of `mask`, rows outer, columns inner.
    """
    _, height, width = ops.shape(values)
    rows, columns = height - 2 * BORDER, width - 2 * BORDER
    offsets = [(i, j) for i in range(2 * BORDER + 1) for j in range(2 * BORDER + 1)]
    return tuple([image[:, i : i + rows, j : j + columns] for i, j in offsets] for image in (values, mask))


def cropped(prediction):
    """`prediction` (batch, height, width) without `BORDER` pixels on each side."""
    return prediction[:, BORDER:-BORDER, BORDER:-BORDER]


def brightness_bias(target, mask, prediction):
    """What has to be added to each sample's prediction so that its masked mean equals the target's: (batch, 1, 1)."""
    difference = ops.sum(mask * (target - prediction), axis=(1, 2), keepdims=True)
    return difference / ops.sum(mask, axis=(1, 2), keepdims=True)


def _masked_mean(values, mask):
    return ops.sum(mask * values, axis=(1, 2)) / ops.sum(mask, axis=(1, 2))


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegisteredL1(keras.losses.Loss):
    """Absolute error per clear pixel, after the best shift and brightness for each sample.

    The prediction, cropped by 3 pixels, is compared with all 49 crops of its target; each time a brightness bias is
    added first; the smallest error counts. PIUnet's first epoch is trained with it.

    Call arguments:
        y_true: (batch, height, width, 2): target, and mask, 1 where it is clear. A sample without a clear pixel in some
            crop gives NaN.
        y_pred: (batch, height, width, 2): mean, and log scale, which is not used.

    Returns:
        The mean over the batch.

    Reference:
        Valsesia & Magli, https://arxiv.org/abs/2105.12409; https://github.com/diegovalsesia/piunet, losses.py.
    """

    def __init__(self, name="registered_l1", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        mean = cropped(y_pred[..., 0])
        errors = []
        for target, mask in zip(*registered_crops(y_true[..., 0], y_true[..., 1]), strict=True):
            bias = brightness_bias(target, mask, mean)
            errors.append(_masked_mean(ops.abs(target - mean - bias), mask))
        return ops.min(ops.stack(errors), axis=0)


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegisteredLaplace(keras.losses.Loss):
    """Negative log-likelihood of a Laplace distribution, after the best shift and brightness for each sample.

    As in the published code, the brightness bias is added to the log scale too.

    Call arguments:
        y_true: (batch, height, width, 2): target, and mask, 1 where it is clear. A sample without a clear pixel in some
            crop gives NaN.
        y_pred: (batch, height, width, 2): mean, and log scale, as `PIUnet` gives them.

    Returns:
        The mean over the batch.

    Reference:
        Valsesia & Magli, https://arxiv.org/abs/2105.12409; https://github.com/diegovalsesia/piunet, losses.py.
    """

    def __init__(self, name="registered_laplace", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        mean, log_scale = cropped(y_pred[..., 0]), cropped(y_pred[..., 1])
        losses = []
        for target, mask in zip(*registered_crops(y_true[..., 0], y_true[..., 1]), strict=True):
            bias = brightness_bias(target, mask, mean)
            biased_scale = log_scale + bias
            losses.append(_masked_mean(biased_scale + ops.abs(target - mean - bias) * ops.exp(-biased_scale), mask))
        return ops.min(ops.stack(losses), axis=0)


@keras.saving.register_keras_serializable(package="spinet_tf")
class SoftMCC(keras.losses.Loss):
    """1 minus Matthews' correlation coefficient of a batch, with probabilities instead of decisions.

    A pixel of probability p and weight w counts as w p predicted positives and w (1 - p) negatives, so that the
    coefficient can be differentiated. It is one number for the whole batch, under `tf.distribute` for the batches of
    all replicas together; a batch whose truth has only one class gives 1 and no gradient.

    Args:
        from_logits: whether predictions are logits instead of probabilities.
        name: name of the loss.

    Call arguments:
        y_true: 1 or 0 per pixel, any shape. Other values (255 is unknown) are for pixels of weight 0.
        y_pred: probabilities or logits of the same shape.
        sample_weight: weight per pixel or per sample: shape of `y_true`, with or without its last dimensions. It is
            part of the counts, as in scikit-learn; multiplying all weights by a number changes nothing.

    Returns:
        A float32 number, 0 to 2.

    Raises:
        SpinetError: if the shapes do not belong together.

    Example:
        model.compile("adam", SoftMCC(from_logits=True))

    Reference: Abhishek & Hamarneh, 2021, https://arxiv.org/abs/2010.13454.
    """

    def __init__(self, from_logits=False, name="soft_mcc"):
        super().__init__(name=name)
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        # The base class would multiply weights with losses per pixel, of which there are none: they go with the truth.
        weight = ops.ones((1,) * len(y_pred.shape)) if sample_weight is None else sample_weight
        return super().__call__((y_true, weight), y_pred)

    def call(self, y_true, y_pred):
        y_true, weight = y_true
        weight = _of_pixels(weight, y_true, y_pred)
        # 1 - p of a probability near 1 would have no digits left.
        positive = ops.sigmoid(y_pred) if self.from_logits else y_pred
        negative = ops.sigmoid(-y_pred) if self.from_logits else 1 - y_pred
        actual, not_actual = weight * y_true, weight * (1 - y_true)
        pairs = [(actual, positive), (not_actual, positive), (actual, negative), (not_actual, negative)]
        counts = ops.stack([ops.sum(truth * predicted) for truth, predicted in pairs])
        tp, fp, fn, tn = ops.unstack(sum_over_replicas(counts), 4)
        # With a dimension, so that the base class shares it out among replicas.
        return ops.reshape(1 - matthews_corrcoef_from_counts(tp, fp, fn, tn, xp=ops), (1,))

    def get_config(self):
        return {"from_logits": self.from_logits, "name": self.name}


@keras.saving.register_keras_serializable(package="spinet_tf")
class CrossEntropySoftMCC(keras.losses.Loss):
    """Binary cross-entropy plus `SoftMCC`: pixels one by one, and the map as a whole.

    Args:
        from_logits: whether predictions are logits instead of probabilities.
        name: name of the loss.

    Call arguments:
        y_true: as for `SoftMCC`.
        y_pred: as for `SoftMCC`.
        sample_weight: weight per pixel, shape of `y_true`. The cross-entropy is the mean of weight times loss over all
            pixels, as Keras takes it.

    Returns:
        A float32 number.

    Example:
        model.compile("adam", CrossEntropySoftMCC(from_logits=True))

    Reference: Abhishek & Hamarneh, 2021, https://arxiv.org/abs/2010.13454.
    """

    def __init__(self, from_logits=False, name="cross_entropy_soft_mcc"):
        super().__init__(name=name)
        self.from_logits = from_logits
        self.terms = (keras.losses.BinaryCrossentropy(from_logits), SoftMCC(from_logits))

    def __call__(self, y_true, y_pred, sample_weight=None):
        cross_entropy, soft_mcc = (term(y_true, y_pred, sample_weight) for term in self.terms)
        return cross_entropy + soft_mcc

    def get_config(self):
        return {"from_logits": self.from_logits, "name": self.name}


@keras.saving.register_keras_serializable(package="spinet_tf")
class LogitNormalCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits with normal noise that the pixels of a small square share.

    A model with uncertainty gives each pixel's logit a mean m and a standard deviation d. In every square of `side` x
    `side` pixels one number e ~ N(0, 1) moves all logits, each by its own deviation:

        p(labels of a square) = integral of N(e; 0, 1) * product over its pixels of p(label | m + d e)

    and the loss is -log of it. Were the noise drawn for every pixel by itself, a label would say nothing of d: each
    pixel's likelihood depends on its marginal logit alone. Shared, it says how much neighbours err together, as they do
    where a whole parcel is taken for another crop or where its frames are few; there, a square counts for less than so
    many independent pixels. With d = 0 the loss is the binary cross-entropy; with `side=1` it is that of the marginal.

    The integral is Gauss and Hermite's sum over 16 values of e, so the loss is no random number. Squares are counted
    from the first row and column; those at the end may be smaller.

    Args:
        side: of the squares, in pixels of the label.
        name: name of the loss.

    Call arguments:
        y_true: (batch, height, width, 1): 1 or 0. Other values (255 is unknown) are for pixels of weight 0.
        y_pred: (batch, height, width, 2): marginal logit and standard deviation, as a `SPInet` with uncertainty gives.
        sample_weight: weight per pixel, shape of `y_true`, with or without its last dimensions: the power to which a
            pixel's likelihood counts.

    Returns:
        A float32 number: the sum over the squares, divided by the number of pixels.

    Raises:
        SpinetError: if the shapes do not belong together.

    Example:
        model = SPInet(uncertainty=True)
        model.compile("adam", LogitNormalCrossEntropy(), weighted_metrics=[MatthewsCorrelation(from_logits=True)])

    Reference:
        Monteiro et al., "Stochastic segmentation networks", https://arxiv.org/abs/2006.06015, of which this is the
        simplest case; Kendall & Gal, https://arxiv.org/abs/1703.04977, section 3.3, whose noise is each pixel's own.
    """

    def __init__(self, side=8, name="logit_normal_cross_entropy"):
        super().__init__(name=name)
        self.side = side

    def __call__(self, y_true, y_pred, sample_weight=None):
        # As in `SoftMCC`.
        weight = ops.ones((1,) * len(y_pred.shape)) if sample_weight is None else sample_weight
        return super().__call__((y_true, weight), y_pred)

    def call(self, y_true, y_pred):
        y_true, weight = y_true
        if len(y_pred.shape) != 4 or y_pred.shape[-1] != 2:
            raise SpinetError(
                "Expected logits and their deviations, (batch, height, width, 2), as SPInet(uncertainty=True) gives. "
                f"Received: {y_pred.shape}"
            )
        weight = ops.broadcast_to(_of_pixels(weight, y_true, y_pred), ops.shape(y_true))
        logit, deviation = y_pred[..., :1], y_pred[..., 1:]
        points, shares = np.polynomial.hermite_e.hermegauss(16)
        # (batch, height, width, points)
        logits = logit * widening(deviation) + deviation * ops.convert_to_tensor(points.astype("float32"))
        log_likelihoods = _sum_over_squares(weight * (y_true * logits - ops.softplus(logits)), self.side)
        log_shares = np.log(shares / math.sqrt(2 * math.pi)).astype("float32")
        losses = -ops.logsumexp(log_likelihoods + log_shares, axis=-1)
        _, height, width, _ = ops.shape(y_true)
        return ops.sum(losses, axis=(1, 2)) / ops.cast(height * width, losses.dtype)

    def get_config(self):
        return {"side": self.side, "name": self.name}


def _of_pixels(weight, y_true, y_pred):
    """Weights with as many dimensions as predictions have."""
    rank = len(y_pred.shape)
    if len(y_true.shape) != rank or len(weight.shape) > rank:
        # Broadcasting would count pixels of one sample against those of another.
        raise SpinetError(
            "Expected truth and prediction of one shape, and weights with as many dimensions or fewer. "
            f"Received: {y_true.shape}, {y_pred.shape} and {weight.shape}"
        )
    return ops.reshape(weight, (*ops.shape(weight), *([1] * (rank - len(weight.shape)))))


def _sum_over_squares(x, side):
    """Sums of `x` (batch, height, width, features) over squares, those at the end as large as there is room."""
    for axis in (1, 2):
        size = ops.shape(x)[axis]
        x = extend(x, side, axis)
        inside = ops.arange(ops.shape(x)[axis]) < size
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        x = ops.where(ops.reshape(inside, shape), x, ops.zeros((), x.dtype))
    _, height, width, features = ops.shape(x)
    return ops.sum(ops.reshape(x, (-1, height // side, side, width // side, side, features)), axis=(2, 4))
