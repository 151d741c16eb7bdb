"""What the second output says, against integrals in float64."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from spinet_tf.models.answers import probability, uncertainty


@pytest.mark.parametrize("logit", [-2.5, 0.0, 1.0, 4.0])
@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0, 8.0])
def test_it_is_the_standard_deviation_of_the_probability(logit, deviation):
    mean = logit * np.sqrt(1 + np.pi / 8 * deviation**2)

    def moment(power):
        inside = [-mean / deviation]
        return quad(lambda e: expit(mean + deviation * e) ** power * norm.pdf(e), -9, 9, points=inside)[0]

    outputs = np.full((1, 1, 1, 2), [logit, deviation], "float32")
    assert float(np.squeeze(uncertainty(outputs))) == pytest.approx(np.sqrt(moment(2) - moment(1) ** 2), abs=0.06)
    assert float(np.squeeze(probability(outputs))) == pytest.approx(expit(logit), rel=1e-6)


def test_it_is_nothing_for_a_known_logit_and_at_most_that_of_a_label(rng):
    outputs = rng.normal(0, 30, (1, 50, 50, 2)).astype("float32")
    outputs[..., 1] = np.abs(outputs[..., 1])
    answer, p = np.asarray(uncertainty(outputs)), np.asarray(probability(outputs)).astype("float64")
    assert answer.shape == (1, 50, 50, 1)
    assert answer.min() >= 0
    assert np.all(answer <= np.sqrt(expit(-np.abs(outputs[..., :1].astype("float64")))) + 1e-6)
    assert answer.max() <= 0.5
    assert np.isfinite(p).all()
    outputs[..., 1] = 0
    np.testing.assert_array_equal(uncertainty(outputs), 0)
