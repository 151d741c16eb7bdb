"""Tiles blend into what the whole image gives."""

import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from spinet_tf.inference.tiles import blending_weights, predict_tiles, tile_starts


class PerPixelEngine:
    """Mean over time and bands, each pixel repeated: tiling must not change it at all."""

    def __init__(self, scale):
        self.scale = scale
        self.shapes = []

    def predict(self, images, num_frames):
        self.shapes.append(images.shape)
        assert num_frames.dtype == np.int32
        assert num_frames.tolist() == [images.shape[1]]
        means = images.mean(axis=(1, 4), dtype=np.float64).astype(np.float32) / np.float32(10000)
        return means.repeat(self.scale, axis=1).repeat(self.scale, axis=2)[..., None]


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "calls"),
    [
        ((37, 53), 16, 4, 3 * 5),  # odd sizes
        ((64, 64), 16, 0, 4 * 4),  # exact multiple, no overlap
        ((10, 7), 16, 4, 1),  # smaller than a tile
        ((10, 40), 16, 4, 1 * 3),  # smaller along one axis
        ((16, 16), 16, 15, 1),
        ((17, 20), 16, 15, 2 * 5),  # the greatest overlap
    ],
)
@pytest.mark.parametrize("scale", [1, 4])
def test_per_pixel_engine_stitches_exactly(size, tile, overlap, calls, scale):
    images = np.random.default_rng(0).integers(0, 12000, (1, 3, *size, 2), np.uint16)
    engine = PerPixelEngine(scale)
    stitched = predict_tiles(engine.predict, images, scale, tile, overlap)
    assert len(engine.shapes) == calls
    assert set(engine.shapes) == {(1, 3, min(tile, size[0]), min(tile, size[1]), 2)}
    assert stitched.dtype == np.float32
    np.testing.assert_array_equal(stitched, PerPixelEngine(scale).predict(images, np.array([3], np.int32)))


@pytest.mark.parametrize("length", range(1, 60))
def test_tiles_cover_the_axis_evenly_and_overlap_enough(length):
    starts = tile_starts(length, tile=12, overlap=3)
    assert starts[0] == 0
    assert starts[-1] == max(length - 12, 0)
    steps = np.diff(starts)
    assert np.all(steps <= 9)  # neighbours share 3 pixels or more
    assert np.ptp(steps) <= 1 if len(steps) else True
    # One tile fewer could not reach: n tiles with the least overlap cover 12 + 9 (n - 1) pixels.
    assert length <= 12 or 12 + 9 * (len(starts) - 2) < length


@pytest.mark.parametrize("length", [5, 12, 13, 31, 57])
def test_weights_sum_to_one_and_fall_towards_the_seam(length):
    starts = tile_starts(length, tile=12, overlap=3)
    weights = blending_weights(starts, length, tile=12, overlap=3, scale=4)
    total = np.zeros(4 * length)
    for start, weight in zip(starts, weights, strict=True):
        assert np.all(weight > 0)
        total[4 * start : 4 * start + len(weight)] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-15)
    if len(starts) > 1:
        # 12 fine pixels of ramp: the first tile's last pixel hardly counts, the next one has taken over.
        assert weights[0][-1] < 0.15
        assert weights[1][0] < 0.15
        assert np.all(np.diff(weights[0][-12:]) < 0)


def test_a_step_between_two_tiles_becomes_a_linear_ramp():
    answers = iter([0.0, 1.0])

    def predict(images, num_frames):
        return np.full((1, images.shape[2], images.shape[3], 1), next(answers), np.float32)

    # Two tiles of 8 over 12 pixels: they share pixels 4..7.
    blended = predict_tiles(predict, np.zeros((1, 1, 1, 12, 1), np.uint16), scale=1, tile=8, overlap=4)
    np.testing.assert_allclose(blended[0, 0, :, 0], [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1], atol=1e-7)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 8), (8, -1), (0, 0)])
def test_impossible_tiles_are_refused(tile, overlap):
    with pytest.raises(SpinetError, match="tile size above the overlap"):
        predict_tiles(PerPixelEngine(1).predict, np.zeros((1, 1, 9, 9, 1), np.uint16), 1, tile, overlap)


def test_an_engine_of_another_scale_is_refused():
    with pytest.raises(SpinetError, match=r"Expected an answer of shape \(1, 36, 36, 1\).*\(1, 9, 9, 1\)"):
        predict_tiles(PerPixelEngine(1).predict, np.zeros((1, 1, 9, 9, 1), np.uint16), 4)
