"""How good a map of two classes is (Matthews' correlation coefficient), and a super-resolved image (cPSNR)."""

import math

import keras
from keras import ops

from spinet_tf.errors import SpinetError
from spinet_tf.losses import brightness_bias, cropped, registered_crops
from spinet_tf.matthews import matthews_corrcoef_from_counts

# JAX truncates float64 to float32 unless told otherwise; every other backend sums in float64.
_SUM_DTYPE = "float32" if keras.backend.backend() == "jax" else "float64"


@keras.saving.register_keras_serializable(package="spinet_tf")
class MatthewsCorrelation(keras.metrics.Metric):
    """Matthews' correlation coefficient of two classes over all pixels seen since the last reset.

    Counts stay exact over far more than 10^9 pixels: they are summed in float64, and on JAX in pairs of float32
    numbers. On JAX one batch may hold 2^24 pixels.

    Args:
        threshold: the probability above which a pixel is predicted positive, between 0 and 1.
        from_logits: whether predictions are logits instead of probabilities.
        name: name of the metric.
        dtype: as in `keras.metrics.Metric`; the sums do not depend on it.

    Call arguments:
        y_true: 1 or 0 per pixel, any shape. Other values (255 is unknown) are for pixels of weight 0.
        y_pred: probabilities or logits of the same shape; or, for truth of shape (..., 1), logits and their deviations,
            (..., 2), as `SPInet(uncertainty=True)` gives them: the deviations do not count.
        sample_weight: weight per pixel or per sample: shape of `y_true`, with or without its last dimensions.

    Returns:
        The coefficient, -1 to 1; 0 where truth or prediction has only one class, as in scikit-learn.

    Raises:
        SpinetError: if the threshold is not between 0 and 1, or the shapes do not belong together.

    Example:
        model.compile("adam", loss, weighted_metrics=[MatthewsCorrelation(from_logits=True)])

    Reference: Matthews, 1975, doi 10.1016/0005-2795(75)90109-9.
    """

    def __init__(self, threshold=0.5, from_logits=False, name="mcc", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if not 0 < threshold < 1:
            raise SpinetError(f"Expected a threshold between 0 and 1, both excluded. Received: {threshold}")
        self.threshold = threshold
        self.from_logits = from_logits
        # tp, fp, fn, tn; the second variable holds what rounding took away from the first.
        self.sums = self.add_variable((4,), "zeros", dtype=_SUM_DTYPE, name="sums")
        self.lost = self.add_variable((4,), "zeros", dtype=_SUM_DTYPE, name="lost")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if y_pred.shape[-1:] == (2,) and y_true.shape[-1:] == (1,):
            y_pred = y_pred[..., :1]
        threshold = math.log(self.threshold / (1 - self.threshold)) if self.from_logits else self.threshold
        predicted = ops.cast(y_pred, "float32") > threshold
        actual = ops.cast(y_true, "float32") > 0.5
        weight = ops.cast(1 if sample_weight is None else sample_weight, _SUM_DTYPE)
        rank = len(predicted.shape)
        if len(actual.shape) != rank or len(weight.shape) > rank:
            # Broadcasting would count pixels of one sample against those of another.
            raise SpinetError(
                "Expected truth and prediction of one shape, and weights with as many dimensions or fewer. "
                f"Received: {actual.shape}, {predicted.shape} and {weight.shape}"
            )
        for _ in range(rank - len(weight.shape)):
            weight = ops.expand_dims(weight, -1)

        def total(selected):
            return ops.sum(ops.where(selected, weight, ops.zeros_like(weight)))

        not_predicted, not_actual = ops.logical_not(predicted), ops.logical_not(actual)
        added = ops.stack(
            [
                total(ops.logical_and(predicted, actual)),
                total(ops.logical_and(predicted, not_actual)),
                total(ops.logical_and(not_predicted, actual)),
                total(ops.logical_and(not_predicted, not_actual)),
            ]
        )
        # Knuth's two-sum: exactly what the addition rounds away.
        sums = self.sums + added
        before = sums - added
        rounded = (self.sums - before) + (added - (sums - before))
        self.lost.assign(self.lost + rounded)
        self.sums.assign(sums)

    def result(self):
        tp, fp, fn, tn = ops.unstack(self.sums + self.lost, 4)
        return matthews_corrcoef_from_counts(tp, fp, fn, tn, xp=ops)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="spinet_tf")
def cpsnr(y_true, y_pred):
    """Peak signal-to-noise ratio of each sample after its best shift and brightness, in dB.

    The prediction, cropped by 3 pixels, is compared with all 49 crops of its target, a brightness bias added first.
    The published code divides the squared error of the whole batch by each sample's own pixels, which is right for a
    batch of one only; here every sample is counted by itself.

    Args:
        y_true: (batch, height, width, 2): target in digital numbers of 16 bits, and mask, 1 where it is clear.
        y_pred: (batch, height, width, 1 or more): prediction in digital numbers, first feature.

    Returns:
        float32 (batch,).

    Reference: Martens et al., https://arxiv.org/abs/1907.02062.
    """
    prediction = cropped(y_pred[..., 0])
    errors = []
    for target, mask in zip(*registered_crops(y_true[..., 0], y_true[..., 1]), strict=True):
        error = mask * (target - prediction - brightness_bias(target, mask, prediction))
        errors.append(ops.sum(ops.square(error), axis=(1, 2)) / ops.sum(mask, axis=(1, 2)))
    return 10 * ops.log10(65535.0**2 / ops.min(ops.stack(errors), axis=0))


@keras.saving.register_keras_serializable(package="spinet_tf")
class CPSNR(keras.metrics.MeanMetricWrapper):
    """Mean over the samples of `cpsnr`, as a metric for `model.compile`."""

    def __init__(self, name="cpsnr", dtype=None):
        super().__init__(cpsnr, name=name, dtype=dtype)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}
