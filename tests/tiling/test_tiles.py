"""Tiles cover a scene, and their weights sum to one."""

import numpy as np
import pytest

from spinet_tf.tiling import Axis, SpinetError, Tiling


@pytest.mark.parametrize("overlap", [0, 3, 6, 11])
@pytest.mark.parametrize("length", [1, 5, 12, 13, 18, 31, 57, 240])
def test_tiles_cover_the_axis_and_overlap_enough(length, overlap):
    axis = Axis.spread(length, tile=12, overlap=overlap)
    steps = np.diff(axis.starts)
    if length <= 12:
        assert (axis.starts, axis.size) == ((0,), length)
        return
    margin = overlap // 2
    assert axis.starts[0] == -margin
    assert axis.starts[-1] + axis.size == length + margin
    assert np.all(axis.size - steps >= overlap)
    assert np.ptp(steps) <= 1
    # Neither fewer tiles nor smaller ones could reach.
    reach = lambda count, size: overlap + count * (size - overlap)  # noqa: E731
    assert reach(len(steps) + 1, axis.size) >= length + 2 * margin
    assert reach(len(steps), 12) < length + 2 * margin
    assert reach(len(steps) + 1, axis.size - 1) < length + 2 * margin


def test_border_tiles_waste_little():
    # Tiles of 64 laid from the first pixel on would need 2 x 2 x 64 x 64 pixels.
    axis = Axis.spread(80, tile=64, overlap=8)
    assert (axis.starts, axis.size) == ((-4, 36), 48)


@pytest.mark.parametrize("length", [1, 5, 16, 33, 50])
@pytest.mark.parametrize("origin", [0, 1, 7, 8, 15, 510_003, -4])
def test_anchored_windows_stay_where_they_are(length, origin):
    axis = Axis.anchored(length, window=16, origin=origin)
    expected = [8 * n for n in range(-10, 70_000) if origin - 16 < 8 * n < origin + length]
    assert [start + origin for start in axis.starts] == expected


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize(
    "axis",
    [
        Axis.spread(57, 12, 3),
        Axis.spread(13, 12, 3),
        Axis.spread(9, 12, 3),
        Axis.spread(40, 12, 0),
        Axis.spread(57, 12, 11),
        Axis.anchored(57, 16, 3),
        Axis.anchored(3, 16, 9),
    ],
)
def test_weights_sum_to_one(axis, scale):
    total = np.zeros(scale * axis.length)
    for number in range(len(axis.starts)):
        inside = axis.inside(number)
        weights = axis.weights(number, scale)
        assert np.all(weights > 0)
        total[scale * inside.start : scale * inside.stop] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-14)


def test_weights_follow_a_squared_cosine_across_a_seam():
    axis = Axis.spread(20, tile=14, overlap=4)
    assert (axis.starts, axis.size) == ((-2, 8), 14)
    first, second = axis.weights(0, scale=2), axis.weights(1, scale=2)
    # They share the pixels 8 to 11, that is 8 fine ones.
    expected = np.cos(np.pi / 2 * (np.arange(8) + 0.5) / 8) ** 2
    np.testing.assert_allclose(first, [1] * 16 + [*expected])
    np.testing.assert_allclose(second, [*expected[::-1]] + [1] * 16)


@pytest.mark.parametrize(("length", "start", "size"), [(10, -4, 9), (10, 6, 9), (3, -5, 14), (1, -2, 4), (2, -1, 5)])
def test_edges_are_reflected_as_numpy_pads(length, start, size):
    axis = Axis(length, size, 4, (start,))
    padded = np.pad(np.arange(length), 20, mode="reflect")
    np.testing.assert_array_equal(axis.reflected(0), padded[20 + start : 20 + start + size])


@pytest.mark.parametrize(("tile", "overlap"), [(8, 8), (8, -1), (0, 0)])
def test_impossible_tiles_are_refused(tile, overlap):
    with pytest.raises(SpinetError, match=f"tile size above the overlap.*Received: tile {tile}, overlap {overlap}"):
        Tiling.spread(9, 9, 4, tile, overlap)


@pytest.mark.parametrize("window", [0, 1, 31])
def test_impossible_windows_are_refused(window):
    with pytest.raises(SpinetError, match=f"even number of pixels.*Received: {window}"):
        Tiling.anchored(9, 9, 4, window)
