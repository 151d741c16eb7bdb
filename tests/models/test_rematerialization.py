"""Computing parts of the network twice changes the memory of a training step and nothing else."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

import spinet_tf
from spinet_tf.errors import SpinetError
from spinet_tf.models import rematerialize
from tests.helpers import padded

# A step of gradient descent with and without, from the same weights, on any backend.
COMPARE = """
import keras
import numpy as np

from spinet_tf.layers import EquivariantUnit, TemporalMean
from spinet_tf.models import rematerialize
from spinet_tf.models.backbone import frames_input

rng = np.random.default_rng(0)
inputs = {"images": rng.normal(size=(3, 4, 5, 6, 3)).astype("float32"), "frame_mask": rng.random((3, 4)) < 0.7}
inputs["frame_mask"][0] = True
truth = (rng.random((3, 5, 6, 1)) < 0.4).astype("float32")


def compare(dtype, tolerance, eager):
    # What the backbone is made of: a whole network takes long to compile.
    x = frames_input(bands=3)
    mask = x["frame_mask"]
    y = EquivariantUnit(8, heads=2, dtype=dtype)(x["images"], mask=mask)
    y = TemporalMean(dtype=dtype)(y, mask=mask)
    model = keras.Model(x, keras.layers.Dense(1, dtype="float32")(y))
    start = model.get_weights()

    def changes():
        model.set_weights(start)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False, run_eagerly=eager)
        model.train_on_batch(inputs, truth)
        return [after - before for after, before in zip(model.get_weights(), start, strict=True)]

    expected = changes()
    rematerialize(model)
    largest = max(np.abs(change).max() for change in expected)
    for a, b, variable in zip(changes(), expected, model.weights, strict=True):
        atol = 1e-6 if "moving" in variable.name else tolerance * largest
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=atol, err_msg=variable.path)
    statistics = [b for b, variable in zip(expected, model.weights, strict=True) if "moving" in variable.name]
    assert all(np.abs(change).max() > 1e-3 for change in statistics)
"""


@pytest.mark.parametrize(
    ("dtype", "tolerance", "eager"),
    [("float32", 1e-5, False), ("float32", 1e-5, True), ("mixed_bfloat16", 0.02, False)],
)
def test_a_step_learns_the_same(dtype, tolerance, eager):
    exec(COMPARE + f"compare({dtype!r}, {tolerance}, {eager})", {})


@pytest.mark.slow
def test_a_step_learns_the_same_on_jax():
    pytest.importorskip("jax")
    code = COMPARE + "compare('float32', 1e-5, False)"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_attention_is_computed_twice_in_training_only(rng):
    model = spinet_tf.SPInet(bands=3, filters=8, tefa_blocks=1, bottleneck=2, fusion="plain")
    inputs = {name: tf.constant(a) for name, a in padded([rng.normal(size=(3, 4, 4, 3))], 3, 0, rng).items()}

    def softmaxes(training):
        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                logits = model(inputs, training=training)
            return tape.gradient(logits, [w.value for w in model.trainable_weights])

        operations = [op.type for op in gradients.get_concrete_function().graph.get_operations()]
        return operations.count("Softmax")

    # Head, two of the TEFA block, mid, and that of TERN.
    units = 5
    assert (softmaxes(True), softmaxes(False)) == (units, units)
    rematerialize(model)
    assert (softmaxes(True), softmaxes(False)) == (2 * units, units)
    assert "remat" not in str(model.get_config())


def test_other_models_are_refused():
    rematerialize(spinet_tf.PIUnet(filters=8, tefa_blocks=1, bottleneck=2))
    with pytest.raises(SpinetError, match=r"SPInet or a PIUnet to rematerialize. Received: RAMS"):
        rematerialize(spinet_tf.RAMS(filters=8, blocks=1))
