"""The rules that the network keeps: order and padding change nothing, nothing but the bands is baked in."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf import SPInet
from tests.helpers import assert_close, graph, padded, randomize

PADDING = [0.0, "noise", np.nan, np.inf, -np.inf]


def probabilities(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, "float64")))


@pytest.fixture(scope="module", params=["multi_resolution", "plain"])
def model(request):
    return randomize(SPInet(bands=4, filters=8, tefa_blocks=2, bottleneck=2, heads=2, fusion=request.param))


@pytest.fixture(scope="module")
def run(model):
    return graph(model)


def random_series(rng, count=None):
    height, width = rng.integers(1, 10, 2)
    return [rng.normal(size=(rng.integers(1, 13), height, width, 4)) for _ in range(count or rng.integers(1, 4))]


@pytest.mark.parametrize("trial", range(12))
def test_order_changes_nothing(run, trial):
    rng = np.random.default_rng(trial)
    samples = random_series(rng)
    shuffled = [sample[rng.permutation(len(sample))] for sample in samples]
    a, b = (probabilities(run(padded(s, 12, 0, rng))) for s in (samples, shuffled))
    assert np.abs(a - b).max() <= 1e-5


@pytest.mark.parametrize("trial", range(5))
def test_order_changes_nothing_wherever_the_padding_is(run, trial):
    """The mask may have holes: it need not be the last frames that are padding."""
    rng = np.random.default_rng(trial)
    inputs = padded(random_series(rng), 13, np.nan, rng)
    order = rng.permutation(13)
    a, b = run(inputs), run({name: array[:, order] for name, array in inputs.items()})
    assert np.abs(probabilities(a) - probabilities(b)).max() <= 1e-5


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("trial", range(3))
def test_padding_changes_nothing(run, trial, padding):
    rng = np.random.default_rng(trial)
    samples = random_series(rng)
    batch = run(padded(samples, 12 + trial, padding, rng))
    for n, sample in enumerate(samples):
        assert_close(batch[n], run(padded([sample], len(sample), 0, rng))[0], 1e-5)


def training_step(model, inputs, labels):
    """Logits, moving statistics and gradients of one training step that starts from the model's weights."""
    before = model.get_weights()
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
    statistics = [np.array(w) for w in model.non_trainable_weights]
    model.set_weights(before)
    return np.asarray(logits), statistics, [np.asarray(g) for g in gradients]


@pytest.mark.parametrize("padding", PADDING)
def test_padding_changes_nothing_in_training(model, padding):
    rng = np.random.default_rng(7)
    samples = random_series(rng, count=3)
    # As long as the longest series: the least padding; then more of it.
    longest = max(len(sample) for sample in samples)
    labels = rng.integers(0, 2, (3, *(4 * side for side in samples[0].shape[1:3]), 1)).astype("float32")
    logits, statistics, gradients = training_step(model, padded(samples, longest, 0, rng), labels)
    more = training_step(model, padded(samples, longest + 3, padding, rng), labels)
    assert_close(more[0], logits, 1e-5)
    for a, b in zip(more[1], statistics, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    largest = max(np.abs(g).max() for g in gradients)
    for a, b in zip(more[2], gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * largest)


def test_gradients_at_the_images_stop_at_the_padding(model):
    rng = np.random.default_rng(3)
    inputs = {name: tf.constant(a) for name, a in padded([rng.normal(size=(2, 4, 4, 4))], 4, np.nan, rng).items()}
    with tf.GradientTape() as tape:
        tape.watch(inputs["images"])
        loss = tf.reduce_sum(model(inputs, training=True) ** 2)
    gradient = np.asarray(tape.gradient(loss, inputs["images"]))
    assert (gradient[:, 2:] == 0).all()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[:, :2]).max() > 0


@pytest.mark.parametrize("padding", [np.nan, "noise"])
def test_a_sample_without_real_frames_harms_no_other(model, run, padding):
    rng = np.random.default_rng(5)
    samples = random_series(rng, count=3)
    inputs = padded(samples, 12, padding, rng)
    inputs["frame_mask"][1] = False
    batch = run(inputs)
    assert np.isfinite(batch).all()
    for n in (0, 2):
        assert_close(batch[n], run(padded([samples[n]], 12, 0, rng))[0], 1e-5)
    labels = np.zeros(batch.shape, "float32")
    logits, statistics, gradients = training_step(model, inputs, labels)
    for array in (logits, *statistics, *gradients):
        assert np.isfinite(array).all()
    # The others train as without it, up to its share of the mean loss.
    others = {name: array[[0, 2]] for name, array in inputs.items()}
    alone = training_step(model, others, labels[[0, 2]])
    assert_close(logits[[0, 2]], alone[0], 1e-5)
    for a, b in zip(statistics, alone[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_spectral_order_matters(run):
    """Unlike the frames, the bands are not interchangeable."""
    rng = np.random.default_rng(2)
    inputs = padded(random_series(rng), 12, 0, rng)
    swapped = {**inputs, "images": inputs["images"][..., ::-1]}
    assert np.abs(run(inputs) - run(swapped)).max() > 1e-2
