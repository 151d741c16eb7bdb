"""One number from all replicas of a distributed step."""

import keras
from keras import ops


def mean_over_replicas(x):
    """Mean of what each replica of `tf.distribute` holds in `x`, on all of them; elsewhere `x` itself.

    On JAX a step sees the arrays of all devices as one, so there is nothing left to bring together.
    """
    if keras.backend.backend() != "tensorflow":
        return x
    # Keras' one public operation that reduces over replicas; outside a strategy it is the mean of one number.
    return ops.moments(ops.expand_dims(x, 0), axes=0, synchronized=True)[0]
