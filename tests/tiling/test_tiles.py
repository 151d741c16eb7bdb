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


@pytest.mark.parametrize("step", [2, 8])
@pytest.mark.parametrize(("tile", "overlap"), [(24, 0), (24, 3), (29, 6), (30, 13), (128, 32)])
@pytest.mark.parametrize("length", [31, 57, 100, 240, 501])
def test_tiles_begin_at_multiples_of_a_step(length, tile, overlap, step):
    axis = Axis.spread(length, tile, overlap, step)
    if length <= tile:
        assert axis.starts == (0,)
        return
    assert {start % step for start in axis.starts} == {0}
    assert axis.size % step == 0
    assert axis.size <= tile
    assert axis.starts[0] <= -(overlap // 2)
    assert axis.starts[-1] + axis.size >= length + overlap // 2
    assert np.all(axis.size - np.diff(axis.starts) >= overlap)
    # Little more than without.
    loose = Axis.spread(length, tile // step * step, -(-overlap // step) * step)
    assert len(axis.starts) <= len(loose.starts) + 1


def test_a_tile_too_small_for_a_step_begins_anywhere():
    assert Axis.spread(40, 10, 5, step=8) == Axis.spread(40, 10, 5)


@pytest.mark.parametrize(("scale", "step"), [(1, 8), (2, 4), (3, 8), (4, 2), (8, 1)])
def test_tiles_see_the_coarse_pixels_of_the_network_as_their_neighbours_do(scale, step):
    tiling = Tiling.spread(500, 470, scale, 64, 16)
    for axis in (tiling.rows, tiling.columns):
        assert {start % step for start in axis.starts} == {0}
        assert {scale * start % 8 for start in axis.starts} == {0}


def test_surroundings_lie_around_a_tile_within_the_scene():
    axis = Axis.spread(100, 20, 0)
    assert axis.starts == (0, 20, 40, 60, 80)
    assert [axis.around(number, 50) for number in range(5)] == [
        slice(0, 50),
        slice(5, 55),
        slice(25, 75),
        slice(45, 95),
        slice(50, 100),
    ]
    assert all(axis.around(number, 500) == slice(0, 100) for number in range(5))
    assert [axis.around(number, 0) for number in range(5)] == [axis.inside(number) for number in range(5)]
    tiling = Tiling.spread(700, 100, 4, 64)
    assert tiling.around(tiling.tiles[0]) == (slice(0, 500), slice(0, 100))
    window = Tiling.anchored(700, 100, 4)
    assert window.around(window.tiles[30]) == window.inside(window.tiles[30])


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
