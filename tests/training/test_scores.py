"""Scores equal scikit-learn's, at any threshold and for any group of pixels."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, matthews_corrcoef, precision_recall_fscore_support

from spinet_tf.data.ai4eo import weight_map
from spinet_tf.errors import SpinetError
from training.scores import (
    THRESHOLDS,
    Score,
    Truth,
    best_threshold,
    clear_frame_groups,
    frame_steps,
    mean_score,
    near_boundary,
)

SHAPE = (40, 30)


def made_map(rng, seen=0.97):
    """A label with unknown pixels; a probability that fits a little, often equal to a threshold; clear frames."""
    label = np.kron(rng.random((8, 6)) < 0.4, np.ones((5, 5))).astype("uint8")
    label[rng.random(SHAPE) < 0.05] = 255
    label[25:32, 3:20] = 255
    probability = np.clip(rng.normal(np.where(label == 1, 0.55, 0.4), 0.2), 0, 1).round(3).astype("float32")
    probability[rng.random(SHAPE) > seen] = np.nan
    return label, probability, rng.integers(0, 7, SHAPE)


def sklearn_mcc(label, called, where, **options):
    return matthews_corrcoef(label[where] == 1, called[where], **options)


def brute_near_boundary(label):
    height, width = label.shape
    borders = set()
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and sorted((label[y, x], label[v, u])) == [0, 1]:
                    borders.add((y, x))
    near = [[any((y - v) ** 2 + (x - u) ** 2 <= 4 for v, u in borders) for x in range(width)] for y in range(height)]
    return np.array(near)


def test_near_a_boundary_as_counted_pixel_by_pixel(rng):
    label = made_map(rng)[0]
    expected = brute_near_boundary(label)
    assert 0.2 < expected.mean() < 0.9
    np.testing.assert_array_equal(near_boundary(label), expected)
    # The unknown makes no boundary, and neither does the edge of the scene.
    alone = np.zeros((9, 9), "uint8")
    alone[3:6, 3:6] = 255
    assert not near_boundary(alone).any()
    alone[:, 4:] = 1
    alone[:, 3:5] = 255
    assert not near_boundary(alone).any()


@pytest.mark.parametrize("threshold", [0.5, 0.437, 0.001])
def test_scores_equal_scikit_learns(rng, threshold):
    label, probability, clear = made_map(rng)
    score = Truth(label, clear).tally(probability, THRESHOLDS).score(threshold)
    called, known = probability > np.float32(threshold), label != 255
    assert np.any(probability == np.float32(threshold)) or threshold == 0.001
    assert score.mcc == pytest.approx(sklearn_mcc(label, called, known))
    weight = weight_map(label == 1, ~known)
    weighted = matthews_corrcoef((label == 1).ravel(), called.ravel(), sample_weight=weight.ravel())
    assert score.weighted_mcc == pytest.approx(weighted)
    assert abs(score.mcc - score.weighted_mcc) > 1e-4
    precision, recall, f1, _ = precision_recall_fscore_support(label[known] == 1, called[known], average="binary")
    assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1))
    assert score.iou == pytest.approx(jaccard_score(label[known] == 1, called[known]))
    near = brute_near_boundary(label)
    assert score.mcc_near_boundary == pytest.approx(sklearn_mcc(label, called, known & near))
    assert score.mcc_elsewhere == pytest.approx(sklearn_mcc(label, called, known & ~near))
    groups = {"0": clear == 0, "1": clear == 1, "2": clear == 2, "3 to 4": (clear == 3) | (clear == 4)}
    groups["5 to 7"] = clear >= 5
    expected = {name: sklearn_mcc(label, called, known & group) for name, group in groups.items()}
    assert score.mcc_by_clear_frames == pytest.approx(expected)


def test_pixels_by_clear_frames(rng):
    label, probability, clear = made_map(rng)
    clear[:2] = 250
    counts = Truth(label, clear).tally(probability, [0.5]).pixels_by_clear_frames()
    known = clear[label != 255]
    assert list(counts) == ["0", "1", "2", "3 to 4", "5 to 7", "200 or more"]
    assert counts["3 to 4"] == ((known == 3) | (known == 4)).sum()
    assert counts["200 or more"] == (known == 250).sum()
    assert sum(counts.values()) == known.size


def test_groups_and_steps_share_their_limits():
    assert clear_frame_groups()[:7] == ["0", "1", "2", "3 to 4", "5 to 7", "8 to 11", "12 to 19"]
    assert frame_steps(16) == [1, 2, 3, 5, 8, 12, 16]
    assert frame_steps(8) == [1, 2, 3, 5, 8]
    assert frame_steps(1) == [1]


def test_mcc_at_every_threshold(rng):
    label, probability, clear = made_map(rng)
    tally = Truth(label, clear).tally(probability, THRESHOLDS)
    curve = tally.mcc_at_thresholds()
    for index in range(0, 999, 111):
        called = probability > np.float32(THRESHOLDS[index])
        assert curve[index] == pytest.approx(sklearn_mcc(label, called, label != 255))
        assert curve[index] == pytest.approx(tally.score(THRESHOLDS[index]).mcc)


def test_the_threshold_with_the_best_mean(rng):
    grid = np.arange(1, 20) / 20
    scenes = [made_map(rng) for _ in range(3)]
    # One scene that would choose another threshold by itself.
    scenes[2] = (scenes[2][0], scenes[2][1] * 0.6, scenes[2][2])
    means = [
        np.mean([sklearn_mcc(label, probability > np.float32(t), label != 255) for label, probability, _ in scenes])
        for t in grid
    ]
    tallies = [Truth(label, clear).tally(probability, grid) for label, probability, clear in scenes]
    assert best_threshold(tallies) == grid[np.argmax(means)]
    assert len({best_threshold([tally]) for tally in tallies}) > 1


def test_of_equal_thresholds_the_nearest_to_a_half():
    label = np.array([[0, 0, 1, 1]], "uint8")
    for low, high, best in ((0.1, 0.9, 0.5), (0.1, 0.3, 0.299), (0.8, 0.9, 0.8)):
        values = np.array([[low, low, high, high]], "float32")
        assert best_threshold([Truth(label, label).tally(values, THRESHOLDS)]) == best


def test_scenes_together_score_as_one_scene(rng):
    first, second = made_map(rng), made_map(rng)
    tallies = [Truth(label, clear).tally(probability, [0.3, 0.5]) for label, probability, clear in (first, second)]
    together = (tallies[0] + tallies[1]).score(0.5)
    label, probability, _ = (
        np.concatenate([one.ravel(), other.ravel()]) for one, other in zip(first, second, strict=True)
    )
    assert together.mcc == pytest.approx(sklearn_mcc(label, probability > 0.5, label != 255))
    weight = np.concatenate([weight_map(one == 1, one == 255).ravel() for one, *_ in (first, second)])
    weighted = matthews_corrcoef(label == 1, probability > 0.5, sample_weight=weight)
    assert together.weighted_mcc == pytest.approx(weighted)


def test_a_map_of_true_and_false(rng):
    label, probability, clear = made_map(rng)
    truth = Truth(label, clear)
    assert truth.tally(probability > 0.5, [0.5]).score(0.5) == truth.tally(probability, [0.5]).score(0.5)


@pytest.mark.parametrize(
    ("label", "called", "expected"),
    [
        (1, 1, (0, 0, 1, 1, 1, 1)),
        (1, 0, (0, 0, 0, 0, 0, 0)),
        (0, 1, (0, 0, 0, 0, 0, 0)),
        (0, 0, (0, 0, 0, 0, 0, 0)),
    ],
)
def test_one_class_only(label, called, expected):
    label = np.full((6, 6), label, "uint8")
    score = Truth(label, label).tally(np.full((6, 6), called, bool), [0.5]).score(0.5)
    assert dataclasses.astuple(score)[:6] == expected
    assert score.mcc_near_boundary is None
    assert score.mcc_elsewhere == 0
    truth, prediction = label.ravel(), np.full(36, called)
    options = {"average": "binary", "zero_division": 0}
    assert (score.precision, score.recall, score.f1) == precision_recall_fscore_support(truth, prediction, **options)[
        :3
    ]
    assert score.iou == jaccard_score(truth, prediction, zero_division=0)


def test_one_known_pixel():
    label = np.full((6, 6), 255, "uint8")
    label[0, 0] = 1
    score = Truth(label, np.zeros((6, 6), int)).tally(np.ones((6, 6)), [0.5]).score(0.5)
    # The challenge's weights leave out the first row and column, so nothing is weighed here.
    assert dataclasses.astuple(score) == (0, 0, 1, 1, 1, 1, None, 0, {"0": 0})


def test_scores_equal_the_challenges(goldens):
    cases = goldens("ai4eo_weight_map")
    for number in range(3):
        case = {name: cases[f"{number}/{name}"] for name in ("cultivated", "not_declared", "prediction")}
        label = np.where(case["not_declared"], 255, case["cultivated"]).astype("uint8")
        expected = float(cases[f"{number}/weighted_mcc"])
        # Where a parcel is half undeclared, the label cannot tell the other half.
        if not np.any(case["cultivated"] & case["not_declared"]):
            score = Truth(label, label).tally(case["prediction"], [0.5]).score(0.5)
            assert score.weighted_mcc == pytest.approx(expected, abs=1e-6)


def test_the_mean_is_over_the_scenes_that_have_the_pixels():
    first = Score(0.8, 0.7, 1.0, 0.5, 0.6, 0.4, 0.3, 0.9, {"1": 0.5, "2": 0.1})
    second = Score(0.6, 0.5, 0.0, 0.3, 0.2, 0.2, None, 0.7, {"0": 0.4, "2": 0.3})
    mean = mean_score([first, second])
    assert dataclasses.astuple(mean)[:6] == pytest.approx((0.7, 0.6, 0.5, 0.4, 0.4, 0.3))
    assert (mean.mcc_near_boundary, mean.mcc_elsewhere) == pytest.approx((0.3, 0.8))
    assert mean.mcc_by_clear_frames == pytest.approx({"0": 0.4, "1": 0.5, "2": 0.2})
    assert list(mean.mcc_by_clear_frames) == ["0", "1", "2"]
    assert mean_score([second]).mcc_near_boundary is None


def test_a_map_of_another_size():
    label = np.zeros((4, 8), "uint8")
    with pytest.raises(SpinetError, match=r"label's shape \(4, 8\). Received: \(8, 8\)"):
        Truth(label, np.zeros((8, 8), int))
    with pytest.raises(SpinetError, match=r"label's shape \(4, 8\). Received: \(8, 4\)"):
        Truth(label, label).tally(np.zeros((8, 4)), [0.5])
