"""Matthews' correlation coefficient, for metrics and losses alike."""

import numpy as np


def matthews_corrcoef_from_counts(tp, fp, fn, tn, xp=np):
    """Matthews' correlation coefficient from counts, or from sums of weights.

    The terms are divided before they are multiplied, so that counts beyond 10^9 overflow in no dtype.

    Args:
        tp: true positives, a number or an array.
        fp: false positives.
        fn: false negatives.
        tn: true negatives.
        xp: `numpy`, or `keras.ops` for tensors. Gradients are finite everywhere.

    Returns:
        The coefficient, -1 to 1; 0 where truth or prediction has only one class, as in scikit-learn.

    Example:
        matthews_corrcoef_from_counts(tp=90, fp=10, fn=5, tn=95)  # 0.851

    Reference: Matthews, 1975, doi 10.1016/0005-2795(75)90109-9.
    """

    def root(total):
        # Where a total is 0 so are the counts divided by it, which makes the result 0.
        return xp.sqrt(xp.maximum(total, 1e-30))

    predicted, not_predicted, actual, not_actual = root(tp + fp), root(tn + fn), root(tp + fn), root(tn + fp)
    agreement = (tp / predicted / actual) * (tn / not_predicted / not_actual)
    return agreement - (fp / predicted / not_actual) * (fn / not_predicted / actual)
