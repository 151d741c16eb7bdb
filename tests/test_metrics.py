"""Matthews' correlation against scikit-learn, TensorFlow Addons' numbers and counts beyond what float32 holds."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from spinet_tf.errors import SpinetError
from spinet_tf.metrics import MatthewsCorrelation, matthews_corrcoef_from_counts


def random_maps(seed=0, shape=(3, 8, 9, 1)):
    rng = np.random.default_rng(seed)
    truth = (rng.random(shape) < 0.4).astype("float32")
    probability = np.clip(0.6 * truth + 0.7 * rng.random(shape), 0.01, 0.99).astype("float32")
    weight = rng.uniform(0, 3, shape).astype("float32")
    return truth, probability, weight


def sklearn_mcc(truth, probability, weight=None, threshold=0.5):
    weight = None if weight is None else np.broadcast_to(weight, truth.shape).ravel()
    return matthews_corrcoef(truth.ravel() > 0.5, probability.ravel() > threshold, sample_weight=weight)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn_over_several_updates(weighted, threshold):
    truth, probability, weight = random_maps()
    metric = MatthewsCorrelation(threshold)
    for i in range(len(truth)):
        metric.update_state(truth[i : i + 1], probability[i : i + 1], weight[i : i + 1] if weighted else None)
    expected = sklearn_mcc(truth, probability, weight if weighted else None, threshold)
    np.testing.assert_allclose(metric.result(), expected, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_logits_are_cut_where_their_probabilities_would_be(threshold):
    truth, probability, _ = random_maps()
    metric = MatthewsCorrelation(threshold, from_logits=True)
    metric.update_state(truth, np.log(probability / (1 - probability)))
    np.testing.assert_allclose(metric.result(), sklearn_mcc(truth, probability, threshold=threshold), atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (3, 8, 9), (3, 8, 9, 1)])
def test_weights_may_lack_last_dimensions(shape):
    truth, probability, _ = random_maps()
    weight = np.random.default_rng(1).uniform(0, 3, shape)
    metric = MatthewsCorrelation()
    metric.update_state(truth, probability, weight)
    full = weight.reshape(shape + (1,) * (4 - len(shape)))
    np.testing.assert_allclose(metric.result(), sklearn_mcc(truth, probability, full), atol=1e-12)


def test_unknown_pixels_of_weight_zero_do_not_count():
    truth, probability, weight = random_maps()
    unknown = weight > 2
    metric = MatthewsCorrelation()
    metric.update_state(np.where(unknown, 255, truth), probability, np.where(unknown, 0, weight))
    expected = sklearn_mcc(truth[~unknown], probability[~unknown], weight[~unknown])
    np.testing.assert_allclose(metric.result(), expected, atol=1e-12)


def test_equals_tensorflow_addons(goldens):
    cases = goldens("tfa_mcc")
    for number in range(6):
        metric = MatthewsCorrelation()
        metric.update_state(cases[f"{number}/y_true"], cases[f"{number}/y_pred"])
        np.testing.assert_allclose(metric.result(), cases[f"{number}/mcc"], atol=1e-5)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize(("truth", "prediction"), [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_one_class_gives_zero_as_in_scikit_learn(truth, prediction):
    metric = MatthewsCorrelation()
    assert float(metric.result()) == 0
    metric.update_state(np.full((4, 1), truth), np.full((4, 1), prediction))
    assert float(metric.result()) == 0
    assert matthews_corrcoef(np.full(4, truth), np.full(4, prediction)) == 0


def test_reset_forgets_everything():
    truth, probability, _ = random_maps()
    metric = MatthewsCorrelation()
    metric.update_state(truth, 1 - probability)
    metric.reset_state()
    metric.update_state(truth, probability)
    np.testing.assert_allclose(metric.result(), sklearn_mcc(truth, probability), atol=1e-12)


# Two billion pixels by batches of 2^24, then 500 single ones: a float32 sum would lose these. Weights of 1/1024 make
# sums that need more digits than float32 has, too.
COUNT_MANY = """
import numpy as np
from keras import ops
from spinet_tf.metrics import MatthewsCorrelation, _SUM_DTYPE

metric = MatthewsCorrelation()
many = np.ones((1 << 24, 1), "float32")
for _ in range({updates}):
    metric.update_state(many, many)
metric.sums.assign(metric.sums * {factor})
metric.lost.assign(metric.lost * {factor})
one = np.ones((1, 1), "float32")
for _ in range(500):
    metric.update_state(one, one, one + 2.0**-10)
    metric.update_state(one, 0 * one)
assert metric.sums.dtype == _SUM_DTYPE == "{dtype}"
total = np.asarray(metric.sums, "float64") + np.asarray(metric.lost, "float64")
expected = [{updates} * {factor} * 2.0**24 + 500 * (1 + 2.0**-10), 0, 500, 0]
np.testing.assert_array_equal(total, expected)
"""


def test_counts_stay_exact_beyond_two_billion_pixels():
    exec(COUNT_MANY.format(updates=4, factor=64, dtype="float64"), {})


@pytest.mark.slow
def test_counts_stay_exact_on_jax():
    pytest.importorskip("jax")
    code = COUNT_MANY.format(updates=4, factor=64, dtype="float32")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_formula_survives_huge_and_tiny_counts():
    counts = np.array([9.0, 2.0, 3.0, 5.0])
    expected = (9 * 5 - 2 * 3) / np.sqrt(11.0 * 12 * 7 * 8)
    for scale in (1e-9, 1, 1e12, 1e60):
        np.testing.assert_allclose(matthews_corrcoef_from_counts(*counts * scale), expected, rtol=1e-12)
    assert matthews_corrcoef_from_counts(*np.array([10**9, 0, 0, 10**9])) == pytest.approx(1)
    np.testing.assert_allclose(matthews_corrcoef_from_counts(*np.float32(counts * 1e12)), expected, rtol=1e-6)


def test_model_fit_reports_it_in_graph_mode(tmp_path):
    truth, probability, weight = random_maps(shape=(6, 4, 4, 1))
    logits = np.log(probability / (1 - probability))
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 1, kernel_initializer="ones")])
    metric = MatthewsCorrelation(from_logits=True)
    model.compile("sgd", "binary_crossentropy", weighted_metrics=[metric])
    model.optimizer.learning_rate = 0.0
    history = model.fit(logits, truth, sample_weight=weight, batch_size=4, verbose=0)
    assert history.history["mcc"] == [pytest.approx(sklearn_mcc(truth, probability, weight))]

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    scores = again.evaluate(logits, truth, sample_weight=weight, verbose=0, return_dict=True)
    assert scores["mcc"] == pytest.approx(sklearn_mcc(truth, probability, weight))


def test_config_round_trips():
    metric = MatthewsCorrelation(0.3, from_logits=True, name="agreement")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.threshold, again.from_logits, again.name) == (0.3, True, "agreement")


@pytest.mark.parametrize("threshold", [0, 1, -0.2])
def test_threshold_out_of_range(threshold):
    with pytest.raises(SpinetError, match="between 0 and 1"):
        MatthewsCorrelation(threshold)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(SpinetError, match="one shape"):
        MatthewsCorrelation().update_state(np.ones((2, 4, 4)), np.ones((2, 4, 4, 1)))


def test_deviations_of_logits_do_not_count(rng):
    truth, probability, weight = random_maps()
    logits = np.log(probability / (1 - probability))
    metric = MatthewsCorrelation(from_logits=True)
    metric.update_state(truth, np.concatenate([logits, rng.uniform(0, 5, logits.shape)], axis=-1), weight)
    np.testing.assert_allclose(metric.result(), sklearn_mcc(truth, probability, weight), atol=1e-12)
