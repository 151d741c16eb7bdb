"""The challenge's weight map: its own answers, a loop over parcels as its definition reads, and speed."""

import math
import time

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import matthews_corrcoef

from spinet_tf.data.ai4eo import label_weights, weight_map
from spinet_tf.errors import SpinetError


def rectangles(seed, size, count, largest):
    rng = np.random.default_rng(seed)
    cultivated = np.zeros((size, size), bool)
    for _ in range(count):
        y, x = rng.integers(0, size, 2)
        height, width = rng.integers(1, largest, 2)
        cultivated[y : y + height, x : x + width] = True
    return cultivated


def by_the_definition(cultivated, not_declared):
    """One parcel after the other, as the challenge describes it."""
    density = stats.skewnorm(15, loc=35 - 100 / 3.14, scale=100).pdf(np.arange(1, 401))
    parcels, count = ndimage.label(cultivated, np.ones((3, 3)))
    y, x = np.mgrid[-2:3, -2:3]
    disk = np.hypot(y, x) <= 2
    total, overlaps = np.zeros(cultivated.shape), np.zeros(cultivated.shape)
    weights = np.ones(cultivated.shape)
    for number in range(1, count + 1):
        parcel = parcels == number
        size = parcel.sum()
        weight = 1 + density[size] / density.max() if size < 400 else 1
        weights[parcel] = weight
        contour = ndimage.binary_dilation(parcel, disk) & ~parcel
        total[contour] += 2 * weight
        overlaps[contour] += 1
    outside = (overlaps > 0) & ~cultivated
    weights[outside] = total[outside] / overlaps[outside]
    weights[not_declared] = 0
    weights[[0, -1, -2]] = 0
    weights[:, [0, -1, -2]] = 0
    return weights


@pytest.mark.parametrize("number", range(3))
def test_equals_the_challenges_own_answers(goldens, number):
    case = {name: value for name, value in goldens("ai4eo_weight_map").items() if name.startswith(f"{number}/")}
    weights = weight_map(case[f"{number}/cultivated"], case[f"{number}/not_declared"])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, case[f"{number}/weights"], atol=1e-6)
    truth, prediction = case[f"{number}/cultivated"].ravel(), case[f"{number}/prediction"].ravel()
    weighted = matthews_corrcoef(truth, prediction, sample_weight=weights.ravel())
    assert weighted == pytest.approx(float(case[f"{number}/weighted_mcc"]), abs=1e-6)


def test_weight_by_size_equals_the_challenges_curve(goldens):
    curve = goldens("ai4eo_weight_map")
    for size in (1, 2, 20, 199, 398, 399, 400):
        side = math.isqrt(size) + 1
        cultivated = np.zeros((side + 6, side + 6), bool)
        block = np.zeros(side * side, bool)
        block[:size] = True
        cultivated[3 : 3 + side, 3 : 3 + side] = block.reshape(side, side)
        weights = weight_map(cultivated, np.zeros_like(cultivated))
        np.testing.assert_allclose(weights[3, 3], curve["curve/weight"][size - 1], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_equals_its_definition(seed):
    cultivated = rectangles(seed, size=90, count=60, largest=9)
    not_declared = rectangles(seed + 100, size=90, count=5, largest=12)
    expected = by_the_definition(cultivated, not_declared)
    np.testing.assert_allclose(weight_map(cultivated, not_declared), expected, atol=1e-6)


def test_turns_with_the_picture_but_for_its_edges():
    cultivated = np.pad(rectangles(5, size=60, count=30, largest=9), 8)
    weights = weight_map(cultivated, np.zeros_like(cultivated))
    turned = weight_map(np.rot90(cultivated), np.zeros_like(cultivated))
    np.testing.assert_array_equal(np.rot90(weights)[2:-2, 2:-2], turned[2:-2, 2:-2])


def test_a_label_says_what_is_unknown():
    label = np.where(rectangles(6, 40, 12, 9), 1, 0).astype("uint8")
    label[10:20, 5:9] = 255
    expected = by_the_definition(label == 1, label == 255)
    np.testing.assert_allclose(label_weights(label), expected, atol=1e-6)
    assert not label_weights(label)[label == 255].any()


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 6)])
def test_nothing_or_everything_cultivated(shape, fill):
    weights = weight_map(np.full(shape, fill), np.zeros(shape, bool))
    inner = weights[1:-2, 1:-2]
    assert np.count_nonzero(weights) == inner.size
    assert np.all(inner > 1) if fill else np.all(inner == 1)


def test_a_whole_scene_in_seconds():
    cultivated = np.zeros((2000, 2000), bool)
    rng = np.random.default_rng(7)
    for y in range(0, 1980, 62):
        for x in range(0, 1980, 62):
            height, width = rng.integers(10, 58, 2)
            cultivated[y : y + height, x : x + width] = True
    assert ndimage.label(cultivated)[1] == 1024
    start = time.perf_counter()
    weight_map(cultivated, np.zeros_like(cultivated))
    assert time.perf_counter() - start < 5


def test_masks_of_two_shapes():
    with pytest.raises(SpinetError, match=r"one shape.*\(4, 4\) and \(4, 5\)"):
        weight_map(np.zeros((4, 4)), np.zeros((4, 5)))
