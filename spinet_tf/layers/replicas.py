"""Sums over all replicas of a distributed step."""

import keras
from keras import ops


def is_replicated(variable):
    """Whether a variable was made under a strategy of `tf.distribute`, which may run a step in several replicas."""
    return hasattr(variable.value, "distribute_strategy")


def sum_over_replicas(x):
    """Sum of what each replica of `tf.distribute` holds in `x`, on all of them; elsewhere `x` itself.

    On JAX a step sees the arrays of all devices as one, so there is nothing left to bring together.
    """
    if keras.backend.backend() != "tensorflow":
        return x
    # The one public operation of Keras that reduces over replicas gives means; a loss is divided by their number.
    mean, _ = ops.moments(ops.expand_dims(x, 0), axes=0, synchronized=True)
    share = keras.losses.MeanAbsoluteError()(ops.zeros((1, 1)), ops.ones((1, 1)))
    return mean / share
