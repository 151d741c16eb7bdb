"""What is computed over all replicas of `tf.distribute` equals what one device computes of the whole batch."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from spinet_tf.layers.replicas import sum_over_replicas

# A normalisation, a dense layer and a soft MCC, on one device and on two with unequal shares of the batch.
STEPS = """
import json

import keras
import numpy as np
import tensorflow as tf

from spinet_tf.layers import MaskedBatchNormalization
from spinet_tf.losses import SoftMCC

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x = (5 + 2 * rng.normal(size=(6, 3, 4, 4, 2))).astype("float32")
mask = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
x[~mask] = 1e6
truth = (x[:, 0, ..., :1] > 5).astype("float32")
weight = np.where(mask.any(1)[:, None, None, None], rng.uniform(0, 2, truth.shape), 0).astype("float32")


def step(strategy, parts):
    with strategy.scope():
        norm, dense = MaskedBatchNormalization(momentum=0.5), keras.layers.Dense(1)
        norm.build(x.shape)
        dense.build((None, 2))
        dense.kernel.assign([[1.0], [-0.5]])
        mix = tf.Variable([[1.0, 0.3], [-0.2, 0.8]])
    variables = [*(v.value for v in (norm.gamma, norm.beta, dense.kernel, dense.bias)), mix]

    @tf.function
    def distributed(*shares):
        def on_replica(x, mask, truth, weight):
            with tf.GradientTape() as tape:
                y = norm(x @ mix, mask=mask, training=True)
                logits = dense(tf.reduce_sum(tf.where(mask[..., None, None, None], y, 0), axis=1))
                loss = SoftMCC(from_logits=True)(truth, logits, weight)
            return loss, tape.gradient(loss, variables)

        loss, gradients = strategy.run(on_replica, args=shares)
        return [strategy.reduce("SUM", value, axis=None) for value in (loss, *gradients)]

    def share(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[parts[context.replica_id_in_sync_group]])
        )

    results = distributed(*map(share, (x, mask, truth, weight)))
    results += [norm.moving_mean.value, norm.moving_variance.value]
    print(json.dumps([strategy.experimental_local_results(result)[-1].numpy().tolist() for result in results]))


step(tf.distribute.get_strategy(), [slice(0, 6)])
step(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), [slice(0, 2), slice(2, 6)])
"""


@pytest.mark.slow
def test_two_replicas_give_the_statistics_gradients_and_loss_of_one():
    # A process of its own: the number of devices is decided before TensorFlow starts.
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = map(json.loads, done.stdout.splitlines())
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    assert 0.05 < one[0] < 0.9


def test_without_a_strategy_a_sum_is_the_value_itself(rng):
    x = rng.normal(size=5).astype("float32")
    np.testing.assert_array_equal(sum_over_replicas(x), x)
