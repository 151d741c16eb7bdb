"""The marginal logit against the integral that it stands for."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from spinet_tf.layers import LogitNormal


@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.7, 5.0])
@pytest.mark.parametrize("log_variance", [-4.0, 0.0, 2.0, 4.0])
def test_its_sigmoid_is_the_expected_probability(mean, log_variance):
    marginal, deviation = np.asarray(LogitNormal()(np.array([[mean, log_variance]])))[0]
    assert deviation == pytest.approx(np.exp(2.5 * np.tanh(log_variance / 5)), rel=1e-5)
    expected, _ = quad(lambda e: expit(mean + deviation * e) * norm.pdf(e), -9, 9, points=[-mean / deviation])
    assert expit(marginal) == pytest.approx(expected, abs=0.02)
    # Towards one half, and never past it.
    assert abs(marginal) <= abs(mean)


def test_nothing_overflows():
    answers = np.asarray(LogitNormal()(np.array([[1e4, 1e9], [-1e4, -1e9]])))
    np.testing.assert_allclose(answers[:, 1], np.exp([2.5, -2.5]), rtol=1e-5)
    assert np.isfinite(answers).all()
