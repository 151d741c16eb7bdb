"""The means of a scene out of those of its tiles."""

import numpy as np
import pytest

from spinet_tf.tiling import Means, MeanSums, SceneMeans, SpinetError, require_means, spread_out
from spinet_tf.tiling.means import TRIES


def test_means_over_tiles_are_the_means_over_what_they_show():
    rng = np.random.default_rng(0)
    shown = {0: [0, 2, 3], 1: [2], 2: [0, 3]}
    features = rng.normal(size=(3, 5, 2)).astype(np.float32)  # of each tile and frame
    sums = MeanSums(dates=5)
    for tile, frames in shown.items():
        own = features[tile, frames]
        padded = np.concatenate([own, np.full((2, 2), 99, np.float32)])  # padding frames do not count
        sums.add(Means(own.mean(axis=0)[None, None], padded[None]), np.array(frames))
    assert sums.tiles == 3
    means = sums.means()
    pairs = np.array([(tile, frame) for tile, frames in shown.items() for frame in frames])
    np.testing.assert_allclose(means.blocks[0], features[pairs[:, 0], pairs[:, 1]].mean(axis=0), rtol=1e-6)
    for frame in range(5):
        tiles = [tile for tile, frames in shown.items() if frame in frames]
        expected = features[tiles, frame].mean(axis=0) if tiles else [np.nan, np.nan]
        np.testing.assert_allclose(means.frames[frame], expected, rtol=1e-6)
    assert means.blocks.dtype == means.frames.dtype == np.float32


def test_a_batch_of_tiles_gets_the_means_of_its_frames():
    means = SceneMeans(np.array([[1, 2]], np.float32), np.arange(8, dtype=np.float32).reshape(4, 2))
    batch = means.of_tiles([np.array([3, 1, 0]), np.array([2])])
    np.testing.assert_array_equal(batch.blocks, [[[1, 2]], [[1, 2]]])
    np.testing.assert_array_equal(batch.frames[0], [[6, 7], [2, 3], [0, 1]])
    np.testing.assert_array_equal(batch.frames[1, 0], [4, 5])
    assert np.isfinite(batch.frames).all()
    assert batch.frames.dtype == np.float32


@pytest.mark.parametrize("count", [1, 7, 64, 1000, 86 * 86])
def test_the_sample_is_spread_over_all(count):
    order = spread_out(range(count))
    assert len(order) == len(set(order)) == min(count, TRIES)
    assert set(order) <= set(range(count))
    if count > TRIES:
        # No quarter of the list is without a fair share of the first 16.
        quarters = np.bincount(np.array(order[:16]) * 4 // count, minlength=4)
        assert quarters.min() >= 2


def test_there_is_nothing_else_to_take_means_over():
    require_means("scene")
    require_means("tile")
    with pytest.raises(SpinetError, match=r"Expected means over scene or tile\. Received: 'frame'"):
        require_means("frame")
