"""Trust in probabilities equals scikit-learn's figures and plain loops over the pixels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from spinet_tf.inference.assembly import entropy
from training.scores import Truth, near_boundary
from training.uncertainty_scores import BINS, LEVELS, PLACES, tally_uncertainty


def made_scene(rng, shape=(40, 30)):
    """A label with unknown pixels, a probability that is too sure, with pixels not seen, and clear frames."""
    label = np.kron(rng.random((shape[0] // 5, shape[1] // 5)) < 0.4, np.ones((5, 5))).astype("uint8")
    probability = (1 / (1 + np.exp(-3 * rng.normal(np.where(label == 1, 0.6, -0.6), 1)))).astype("float32")
    label[rng.random(shape) < 0.05] = 255
    probability[rng.random(shape) < 0.05] = np.nan
    return label, probability, rng.integers(0, 4, shape)


def loop_ece(p, cultivated):
    total = 0.0
    for number in range(BINS):
        inside = [(value, is_so) for value, is_so in zip(p, cultivated, strict=True) if int(value * BINS) == number]
        if inside:
            total += abs(sum(value for value, _ in inside) - sum(is_so for _, is_so in inside))
    return total / len(p)


def loop_aurc(uncertainty, wrong):
    order = np.argsort(uncertainty, kind="stable")
    risks, errors = [], 0
    for kept, pixel in enumerate(order, start=1):
        errors += wrong[pixel]
        risks.append(errors / kept)
    return np.mean(risks)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("own", [False, True])
def test_trust_equals_an_independent_computation(rng, place, own):
    label, probability, clear = made_scene(rng)
    uncertainty = rng.random(label.shape).astype("float32") if own else None
    trust = tally_uncertainty(Truth(label, clear), probability, uncertainty).trust(place)
    counts = (label != 255) & np.isfinite(probability)
    if place != "all":
        counts &= near_boundary(label) == (place == "near_boundary")
    p, cultivated = probability[counts].astype("float64"), label[counts] == 1
    wrong = (p > 0.5) != cultivated
    u = uncertainty[counts] if own else entropy(p)
    assert trust.pixels == counts.sum()
    assert trust.ece == pytest.approx(loop_ece(p, cultivated))
    assert trust.brier == pytest.approx(brier_score_loss(cultivated, p))
    assert trust.nll == pytest.approx(log_loss(cultivated, p), rel=1e-5)
    assert trust.error_rate == pytest.approx(wrong.mean())
    # Pixels of one level tie; the rest of the difference is theirs.
    assert trust.error_detection == pytest.approx(average_precision_score(wrong, np.searchsorted(LEVELS, u)))
    assert trust.aurc == pytest.approx(loop_aurc(u, wrong), abs=2e-3)
    assert trust.excess_aurc == pytest.approx(trust.aurc - loop_aurc(wrong, wrong))
    assert trust.uncertainty == pytest.approx(u.mean())


def test_within_a_level_the_order_is_random(rng):
    label, probability, clear = made_scene(rng, (10, 10))
    uncertainty = rng.choice([0.1, 0.2, 0.7], label.shape)
    trust = tally_uncertainty(Truth(label, clear), probability, uncertainty).trust()
    counts = (label != 255) & np.isfinite(probability)
    wrong = (probability[counts] > 0.5) != (label[counts] == 1)
    areas = []
    for _ in range(2000):
        order = rng.permutation(wrong.size)
        areas.append(loop_aurc(uncertainty[counts][order], wrong[order]))
    assert trust.aurc == pytest.approx(np.mean(areas), abs=5 * np.std(areas) / np.sqrt(2000))


def test_scenes_add_up_to_one(rng):
    scenes = [made_scene(rng), made_scene(rng)]
    label, probability, clear = (np.concatenate(arrays) for arrays in zip(*scenes, strict=True))
    first, second = (tally_uncertainty(Truth(one, frames), p) for one, p, frames in scenes)
    together, whole = (first + second).trust(), tally_uncertainty(Truth(label, clear), probability).trust()
    assert together.pixels == whole.pixels
    for name in ("ece", "brier", "nll", "aurc", "error_detection", "uncertainty"):
        assert getattr(together, name) == pytest.approx(getattr(whole, name))


def test_curves_pass_through_the_figures(rng):
    label, probability, clear = made_scene(rng)
    tally = tally_uncertainty(Truth(label, clear), probability)
    coverage, risk = tally.risk_coverage()
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(tally.trust().error_rate)
    assert np.trapezoid(risk, coverage) == pytest.approx(tally.trust().aurc, abs=0.01)
    mean, share, pixels = tally.reliability()
    assert (np.abs(mean - share) * pixels).sum() / pixels.sum() == pytest.approx(tally.trust().ece)


def test_groups_by_clear_frames(rng):
    label, probability, clear = made_scene(rng)
    groups = tally_uncertainty(Truth(label, clear), probability).by_clear_frames()
    assert [group["from"] for group in groups] == [0, 1, 2, 3]
    for group in groups:
        inside = (label != 255) & np.isfinite(probability) & (clear == group["from"])
        assert group["pixels"] == inside.sum()
        assert group["error_rate"] == pytest.approx(((probability > 0.5) != (label == 1))[inside].mean())
        assert group["uncertainty"] == pytest.approx(entropy(probability[inside]).mean())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_is_sure_and_right_or_wrong(value):
    label = np.ones((6, 6), "uint8")
    tally = tally_uncertainty(Truth(label, label), np.full((6, 6), value))
    trust = tally.trust()
    assert trust.ece == trust.brier == trust.error_rate == trust.aurc == trust.error_detection == 1 - value
    assert np.isfinite(trust.nll)
    assert trust.excess_aurc == 0
    assert tally.trust("near_boundary") is None
