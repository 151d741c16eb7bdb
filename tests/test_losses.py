"""Registered losses and cPSNR, against the authors' numbers and a loop over the shifts in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf.losses import RegisteredL1, RegisteredLaplace
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


@pytest.mark.parametrize("made", [RegisteredL1(), RegisteredLaplace(), CPSNR()])
def test_survive_a_config_round_trip(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()
