"""Soft MCC against scikit-learn; registered losses and cPSNR against the authors' numbers and a loop in float64."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import matthews_corrcoef

from spinet_tf.errors import SpinetError
from spinet_tf.losses import CrossEntropySoftMCC, LogitNormalCrossEntropy, RegisteredL1, RegisteredLaplace, SoftMCC
from spinet_tf.metrics import CPSNR, cpsnr


def pair(first, second):
    """Two (batch, 1, height, width) arrays as the channels of one."""
    return np.stack([first[:, 0], second[:, 0]], axis=-1)


@pytest.fixture
def golden(goldens):
    arrays = goldens("loss_l1_registered_uncertainty")
    return arrays, pair(arrays["y_true"], arrays["y_mask"]), pair(arrays["mu_pred"], arrays["sigma_pred"])


def test_registered_l1_equals_the_published(golden):
    arrays, y_true, y_pred = golden
    np.testing.assert_allclose(RegisteredL1()(y_true, y_pred), arrays["l1_registered_loss_f64"], rtol=1e-6)
    np.testing.assert_allclose(RegisteredL1().call(y_true, y_pred), arrays["l1_registered_per_sample"], rtol=1e-6)


def test_registered_laplace_equals_the_published(golden):
    arrays, y_true, y_pred = golden
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = RegisteredLaplace()(y_true, y_pred)
    np.testing.assert_allclose(loss, arrays["loss_f64"], rtol=1e-6)
    np.testing.assert_allclose(RegisteredLaplace().call(y_true, y_pred), arrays["loss_per_sample"], rtol=1e-6)
    expected = pair(arrays["grad_mu"], arrays["grad_sigma"])
    np.testing.assert_allclose(tape.gradient(loss, y_pred), expected, rtol=0, atol=1e-4 * expected.std())


def test_cpsnr_equals_the_published(goldens):
    arrays = goldens("cpsnr")
    y_true, y_pred = pair(arrays["y_true"], arrays["y_mask"]), np.moveaxis(arrays["y_pred"], 1, -1)
    np.testing.assert_allclose(cpsnr(y_true, y_pred), arrays["cpsnr_per_sample_f64"], rtol=1e-5)
    # For a batch the published code sums the squared errors of all samples, then divides by each sample's pixels.
    prediction = y_pred[:, 3:-3, 3:-3, 0].astype("float64")
    by_shift = []
    for i, j in np.ndindex(7, 7):
        target, mask = np.moveaxis(y_true[:, i : i + 18, j : j + 18].astype("float64"), -1, 0)
        clear = mask.sum((1, 2))
        bias = (mask * (target - prediction)).sum((1, 2)) / clear
        squared = ((mask * (target - prediction - bias[:, None, None])) ** 2).sum()
        by_shift.append(10 * np.log10(65535**2 / (squared / clear)))
    np.testing.assert_allclose(np.max(by_shift, axis=0).mean(), arrays["cpsnr_batch"], rtol=1e-6)


def by_loop(y_true, y_pred):
    """Smallest L1, Laplace loss and mean squared error over the shifts, for one sample."""
    l1, laplace, mse = [], [], []
    size = np.array(y_true.shape[:2]) - 6
    mean, log_scale = np.moveaxis(y_pred[3:-3, 3:-3].astype("float64"), -1, 0)
    for i, j in np.ndindex(7, 7):
        target, mask = np.moveaxis(y_true[i : i + size[0], j : j + size[1]].astype("float64"), -1, 0)
        clear = mask.astype(bool)
        bias = (target - mean)[clear].mean()
        error = np.abs(target - mean - bias)[clear]
        scale = (log_scale + bias)[clear]
        l1.append(error.mean())
        laplace.append((scale + error / np.exp(scale)).mean())
        mse.append((error**2).mean())
    return min(l1), min(laplace), min(mse)


def test_equal_a_loop_over_the_shifts(rng):
    """Not square, and with another best shift in each sample."""
    scene = rng.normal(size=(40, 40)).astype("float32")
    y_true = np.stack([scene[10 + i : 24 + i, 10 + j : 27 + j] for i, j in ((0, 0), (2, -3), (-1, 1))])
    y_true = np.stack([y_true, rng.random(y_true.shape) < 0.8], axis=-1).astype("float32")
    y_pred = np.broadcast_to(scene[10:24, 10:27], y_true.shape[:-1]) + 0.1 * rng.normal(size=y_true.shape[:-1])
    y_pred = np.stack([y_pred, rng.normal(size=y_pred.shape)], axis=-1).astype("float32")
    expected = np.array([by_loop(*sample) for sample in zip(y_true, y_pred, strict=True)])
    np.testing.assert_allclose(RegisteredL1().call(y_true, y_pred), expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(RegisteredLaplace().call(y_true, y_pred), expected[:, 1], rtol=1e-5)
    np.testing.assert_allclose(cpsnr(y_true, y_pred), 10 * np.log10(65535**2 / expected[:, 2]), rtol=1e-5)
    metric = CPSNR()
    metric.update_state(y_true[:1], y_pred[:1])
    metric.update_state(y_true[1:], y_pred[1:])
    np.testing.assert_allclose(metric.result(), np.mean(10 * np.log10(65535**2 / expected[:, 2])), rtol=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        RegisteredL1(),
        RegisteredLaplace(),
        CPSNR(),
        SoftMCC(from_logits=True),
        CrossEntropySoftMCC(name="sum"),
        LogitNormalCrossEntropy(side=4),
    ],
)
def test_survive_a_config_round_trip(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def maps(rng, shape=(3, 4, 5, 1)):
    truth = (rng.random(shape) < 0.4).astype("float32")
    logits = (2 * truth - 1 + rng.normal(0, 1.5, shape)).astype("float32")
    return truth, logits, rng.uniform(0, 3, shape).astype("float32")


def soft_mcc(truth, probability, weight):
    """The loss in float64, by the definition."""
    positive, negative = weight * probability, weight * (1 - probability)
    tp, fp = (positive * truth).sum(), (positive * (1 - truth)).sum()
    fn, tn = (negative * truth).sum(), (negative * (1 - truth)).sum()
    return 1 - (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("float64")))


@pytest.mark.parametrize("weighted", [False, True])
def test_soft_mcc_of_sure_predictions_is_scikit_learns(weighted, rng):
    truth, logits, weight = maps(rng)
    weight = weight if weighted else None
    expected = 1 - matthews_corrcoef(
        truth.ravel(), logits.ravel() > 0, sample_weight=None if weight is None else weight.ravel()
    )
    assert 0.1 < expected < 0.9
    assert float(SoftMCC(from_logits=True)(truth, 1e4 * logits, weight)) == pytest.approx(expected, abs=1e-6)
    assert float(SoftMCC()(truth, (logits > 0).astype("float32"), weight)) == pytest.approx(expected, abs=1e-6)


def test_soft_mcc_and_its_gradient_equal_the_definition(rng):
    truth, logits, weight = maps(rng)
    # Pixels of unknown truth weigh nothing, whatever stands in their place.
    weight[0, 1] = 0
    unknown = np.where(weight == 0, 255, truth)
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = SoftMCC(from_logits=True)(unknown, x, weight)
    assert loss.dtype == "float32"
    assert loss.shape == ()
    assert float(loss) == pytest.approx(soft_mcc(truth, sigmoid(logits), weight), abs=1e-6)
    assert float(SoftMCC()(truth, sigmoid(logits), weight)) == pytest.approx(float(loss), abs=1e-6)
    gradient = tape.gradient(loss, x).numpy()
    for place in ((0, 0, 0, 0), (0, 1, 2, 0), (2, 3, 4, 0)):
        step = np.zeros(logits.shape)
        step[place] = 1e-4
        values = [soft_mcc(truth, sigmoid(logits.astype("float64") + sign * step), weight) for sign in (1, -1)]
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-4, abs=1e-7)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (3, 4, 5)])
def test_soft_mcc_takes_weights_without_last_dimensions(shape, rng):
    truth, logits, _ = maps(rng)
    weight = rng.uniform(0, 3, shape)
    full = np.broadcast_to(weight.reshape(shape + (1,) * (4 - len(shape))), truth.shape)
    loss = SoftMCC(from_logits=True)(truth, logits, weight)
    assert float(loss) == pytest.approx(soft_mcc(truth, sigmoid(logits), full), abs=1e-6)


@pytest.mark.parametrize("truth", [0.0, 1.0, "both"])
@pytest.mark.parametrize("weight", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("logit", [-1e4, -60.0, -1.0, 60.0, 1e4])
def test_soft_mcc_is_finite_where_there_is_nothing_to_correlate(truth, weight, logit):
    y_true = np.full((1, 4, 4, 1), 0 if truth == "both" else truth, "float32")
    if truth == "both":
        y_true[:, :2] = 1
    x = tf.fill(y_true.shape, logit)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = SoftMCC(from_logits=True)(y_true, x, np.full(y_true.shape, weight))
    assert float(loss) == pytest.approx(1, abs=1e-6)
    assert np.isfinite(tape.gradient(loss, x)).all()


def test_soft_mcc_refuses_shapes_that_would_broadcast():
    with pytest.raises(SpinetError, match=r"one shape.*Received: \(2, 4, 4\), \(2, 4, 4, 1\)"):
        SoftMCC()(np.ones((2, 4, 4)), np.ones((2, 4, 4, 1)))


def test_cross_entropy_plus_soft_mcc_is_their_sum(rng):
    truth, logits, weight = maps(rng)
    p = sigmoid(logits)
    loss = CrossEntropySoftMCC(from_logits=True)(truth, logits, weight)
    expected = cross_entropy(truth, logits, weight) + soft_mcc(truth, p, weight)
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    again = CrossEntropySoftMCC()(truth, p.astype("float32"), weight)
    assert float(again) == pytest.approx(float(loss), abs=1e-5)


FIT = """
import keras
import numpy as np

from spinet_tf.losses import {loss}

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
images = rng.normal(size=(8, 6, 6, 2)).astype("float32")
truth = (images[..., :1] > 0.5).astype("float32")
weight = rng.uniform(0, 2, truth.shape)
# Where nothing weighs, everything is the other way round.
wrong = rng.random(truth.shape) < 0.3
truth[wrong], weight[wrong] = 1 - truth[wrong], 0
model = keras.Sequential([keras.Input((None, None, 2)), keras.layers.Conv2D(1, 1)])
model.compile(keras.optimizers.Adam(0.1), {loss}(from_logits=True))
losses = model.fit(images, truth, sample_weight=weight, batch_size=4, epochs=40, verbose=0).history["loss"]
assert losses[-1] < 0.45 < 0.8 < losses[0], losses
restored = {loss}.from_config(model.loss.get_config())
logits = model.predict(images, verbose=0)
expected = model.evaluate(images, truth, sample_weight=weight, batch_size=8, verbose=0)
np.testing.assert_allclose(restored(truth, logits, weight), expected, atol=1e-6)
"""


@pytest.mark.parametrize("loss", ["SoftMCC", "CrossEntropySoftMCC"])
def test_a_model_learns_by_soft_mcc_where_weights_say(loss):
    exec(FIT.format(loss=loss), {})


@pytest.mark.slow
def test_soft_mcc_trains_on_jax():
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    code = FIT.format(loss="CrossEntropySoftMCC")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def cross_entropy(truth, logits, weight=1):
    p = sigmoid(logits)
    return (weight * -(truth * np.log(p) + (1 - truth) * np.log(1 - p))).mean()


def shared_noise(truth, marginal, deviation, weight, side):
    """The loss in float64, by SciPy's integration over each square's noise."""
    mean = marginal * np.sqrt(1 + np.pi / 8 * deviation**2)
    total = 0.0
    for sample in range(len(truth)):
        for rows in range(0, truth.shape[1], side):
            for columns in range(0, truth.shape[2], side):
                square = np.s_[sample, rows : rows + side, columns : columns + side, 0]

                def likelihood(noise, square=square):
                    p = expit(mean[square] + deviation[square] * noise)
                    log = weight[square] * (truth[square] * np.log(p) + (1 - truth[square]) * np.log(1 - p))
                    return np.exp(log.sum()) * norm.pdf(noise)

                total -= np.log(quad(likelihood, -8, 8)[0])
    return total / truth.size


def test_noise_that_pixels_share_is_integrated_out(rng):
    truth, marginal, weight = maps(rng, (2, 5, 4, 1))
    deviation = rng.uniform(0.2, 1.2, truth.shape).astype("float32")
    weight[0, 1] = 0
    unknown = np.where(weight == 0, 255, truth)
    y_pred = np.concatenate([marginal, deviation], axis=-1)
    for side in (1, 3, 8):
        loss = LogitNormalCrossEntropy(side)(unknown, y_pred, weight)
        assert float(loss) == pytest.approx(shared_noise(truth, marginal, deviation, weight, side), rel=2e-4)


def test_without_noise_it_is_the_cross_entropy(rng):
    truth, marginal, weight = maps(rng)
    y_pred = np.concatenate([marginal, 0 * marginal], axis=-1)
    expected = cross_entropy(truth, marginal, weight)
    assert float(LogitNormalCrossEntropy(side=3)(truth, y_pred, weight)) == pytest.approx(expected, rel=1e-5)
    # A pixel's own noise says nothing: the likelihood is that of the marginal.
    expected = cross_entropy(truth, marginal)
    for deviation in (0.5, 2.0):
        noisy = np.concatenate([marginal, np.full_like(marginal, deviation)], axis=-1)
        assert float(LogitNormalCrossEntropy(side=1)(truth, noisy)) == pytest.approx(expected, rel=0.02)


def test_neighbours_that_err_together_ask_for_noise():
    """Where squares are wholly right or wholly wrong the loss wants a great deviation, where pixels are not a small."""
    together = np.zeros((1, 16, 16, 1), "float32")
    together[:, :8, :8] = 1
    apart = np.zeros_like(together)
    apart[:, ::2, ::2] = 1
    deviation = tf.fill((1, 16, 16, 1), 1.0)
    # What suits three pixels in four.
    logit = tf.fill((1, 16, 16, 1), -float(np.log(3)))
    gradients = []
    for truth in (together, apart):
        with tf.GradientTape() as tape:
            tape.watch(deviation)
            loss = LogitNormalCrossEntropy()(truth, tf.concat([logit, deviation], -1))
        gradients.append(float(tf.reduce_sum(tape.gradient(loss, deviation))))
    assert gradients[0] < -0.01
    assert gradients[1] > 0.01


def test_it_refuses_what_no_model_with_uncertainty_gives(rng):
    truth, logits, _ = maps(rng)
    with pytest.raises(SpinetError, match=r"Expected logits and their deviations.* Received: \(3, 4, 5, 1\)"):
        LogitNormalCrossEntropy()(truth, logits)
