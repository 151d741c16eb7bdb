"""Tiles cut out of a scene, answered and put together again, give the map of the scene."""

from dataclasses import replace

import numpy as np
import pytest

from spinet_tf.tiling import FrameChoice, Mosaic, Series, SpinetError, Tiling, cut_request, frames_to_read, tile_frames

SCALE = 3


def make_series(height, width, time=4, bands=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 9999, (time, height, width, bands), "uint16"), np.ones((time, height, width), bool)


def answer(request):
    """The mean over frames and bands, each pixel repeated: what a network that looks at single pixels would say."""
    means = (request.images.mean(axis=(0, 3)) / 10000).astype("float32")
    return means.repeat(SCALE, axis=0).repeat(SCALE, axis=1)[..., None]


def stitch(images, valid, tiling, choice=FrameChoice(), order=1):  # noqa: B008  (frozen)
    mosaic = Mosaic(tiling)
    for tile in tiling.tiles[::order]:
        request = cut_request(Series.whole(images, valid), tiling, tile, choice)
        if request is not None:
            mosaic.add(tile, answer(request), request.counts)
    return mosaic


@pytest.mark.parametrize(
    ("size", "tiling"),
    [
        ((37, 53), Tiling.spread(37, 53, SCALE, 16, 4)),
        ((64, 64), Tiling.spread(64, 64, SCALE, 16, 0)),
        ((10, 7), Tiling.spread(10, 7, SCALE, 16, 4)),
        ((10, 40), Tiling.spread(10, 40, SCALE, 16, 4)),
        ((17, 20), Tiling.spread(17, 20, SCALE, 16, 15)),
        ((37, 53), Tiling.anchored(37, 53, SCALE, 16, (5, 1003))),
        ((3, 1), Tiling.anchored(3, 1, SCALE, 8)),
    ],
)
def test_what_depends_on_single_pixels_comes_back_unchanged(size, tiling):
    images, valid = make_series(*size)
    mosaic = stitch(images, valid, tiling)
    expected = (images.mean(axis=(0, 3)) / 10000).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    assert mosaic.probability().dtype == np.float32
    np.testing.assert_allclose(mosaic.probability(), expected, rtol=0, atol=6e-8)
    np.testing.assert_array_equal(mosaic.counts, np.full(size, 4))


def test_the_order_of_tiles_changes_no_bit():
    images, valid = make_series(37, 53)
    tiling = Tiling.spread(37, 53, SCALE, 16, 7)
    np.testing.assert_array_equal(stitch(images, valid, tiling).total, stitch(images, valid, tiling, order=-1).total)


def test_each_tile_has_its_own_frames():
    images, valid = make_series(8, 32, time=3)
    images[1] = 0
    valid[0, :, :16] = False  # the left half sees frame 2 alone
    valid[1] = False
    valid[2, :, 16:] = False
    tiling = replace(Tiling.spread(8, 32, SCALE, 16, 0), surroundings=0)
    left, right = (cut_request(Series.whole(images, valid), tiling, tile, FrameChoice()) for tile in tiling.tiles)
    np.testing.assert_array_equal(left.frames, [2])
    np.testing.assert_array_equal(right.frames, [0])
    np.testing.assert_array_equal(left.images, images[2:, :, :16])
    np.testing.assert_array_equal(right.images, images[:1, :, 16:])


def test_frames_are_chosen_by_what_surrounds_a_tile():
    images, valid = make_series(16, 64, time=4)
    valid[0, :, :10] = False  # a cloud over most of the first tile, a sixth of the scene
    valid[1, :, :40] = False  # clear in the last tile, cloudy in the scene
    valid[:, :, 60:] = False  # what is never seen counts for nobody
    images[3, :, 48:] = 0  # no data in the last tile
    valid[3, :, 48:] = False
    tiling = Tiling.spread(16, 64, SCALE, 16, 0)
    series = Series.whole(images, valid)
    frames = [tile_frames(series, tiling, tile, FrameChoice()).tolist() for tile in tiling.tiles]
    assert frames == [[0, 2, 3], [0, 2, 3], [0, 2, 3], [0, 2]]
    by_itself = replace(tiling, surroundings=0)
    frames = [tile_frames(series, by_itself, tile, FrameChoice()).tolist() for tile in tiling.tiles]
    assert frames == [[2, 3], [0, 2, 3], [0, 2, 3], [0, 1, 2]]
    # Where its surroundings have nothing for a tile, it chooses for itself.
    assert frames_to_read(valid, tiling, tiling.tiles[:1], FrameChoice()).tolist() == [0, 2, 3]
    images[[0, 2, 3], :, :16] = 0
    valid[[0, 2, 3], :, :16] = False
    valid[1, :, :8] = True
    assert tile_frames(series, tiling, tiling.tiles[0], FrameChoice()).tolist() == [1]
    assert frames_to_read(valid, tiling, tiling.tiles[:1], FrameChoice()).tolist() == [0, 1, 2, 3]


def test_counts_tell_clear_frames_and_missing_data():
    images, valid = make_series(6, 6, time=4)
    valid[1] = False  # not chosen
    valid[2, 0, 0] = False
    images[[0, 2, 3], :, 1, 1] = 0
    images[:3, 0, 5] = 0  # frame 3 is left
    counts = cut_request(
        Series.whole(images, valid), tiling := Tiling.spread(6, 6, SCALE), tiling.tiles[0], FrameChoice()
    ).counts
    assert counts.dtype == np.int16
    assert (counts[0, 0], counts[1, 1], counts[0, 5], counts[3, 3]) == (2, 3, 3, 3)
    images[[0, 2, 3], 4, 4] = 0  # frame 1 holds data there, but was not chosen
    counts = cut_request(Series.whole(images, valid), tiling, tiling.tiles[0], FrameChoice()).counts
    assert np.argwhere(counts < 0).tolist() == [[4, 4]]
    mosaic = stitch(images, valid, tiling)
    assert np.isnan(mosaic.probability()).sum() == SCALE**2
    assert np.isnan(mosaic.probability()[12:15, 12:15]).all()


def test_a_tile_without_clear_ground_has_the_frames_that_hold_data():
    images, valid = make_series(6, 6, time=4)
    valid[:] = False
    images[2] = 0
    images[1, :, :4] = 0
    tiling = Tiling.spread(6, 6, SCALE)
    request = cut_request(Series.whole(images, valid), tiling, tiling.tiles[0], FrameChoice())
    np.testing.assert_array_equal(request.frames, [0, 3])
    assert not request.counts.any()
    request = cut_request(Series.whole(images, valid), tiling, tiling.tiles[0], FrameChoice("clearest", 3))
    np.testing.assert_array_equal(request.frames, [0, 1, 3])
    assert cut_request(Series.whole(images * 0, valid), tiling, tiling.tiles[0], FrameChoice()) is None


def test_a_window_of_the_scene_gives_the_same_tile():
    images, valid = make_series(40, 40)
    valid[0, 20:] = False
    tiling = replace(Tiling.spread(40, 40, SCALE, 16, 6), surroundings=0)
    for tile in (tiling.tiles[0], tiling.tiles[5], tiling.tiles[-1]):
        whole = cut_request(Series.whole(images, valid), tiling, tile, FrameChoice())
        y, x = tiling.rows.reflected(tile.row), tiling.columns.reflected(tile.column)
        window = np.s_[:, y.min() : y.max() + 1, x.min() : x.max() + 1]
        corner = (y.min(), x.min())
        part = cut_request(
            Series(images[window], valid[window], np.arange(4), corner, corner), tiling, tile, FrameChoice()
        )
        np.testing.assert_array_equal(part.images, whole.images)
        np.testing.assert_array_equal(part.counts, whole.counts)


@pytest.mark.parametrize("shape", [(18, 18), (18, 17, 1), (6, 6, 1)])
def test_an_answer_of_another_shape_is_refused(shape):
    mosaic = Mosaic(Tiling.spread(6, 6, SCALE))
    with pytest.raises(SpinetError, match=r"Expected an answer of shape \(18, 18, 1\).*Received"):
        mosaic.add(mosaic.tiling.tiles[0], np.zeros(shape, "float32"), np.zeros((6, 6), "int16"))


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(value):
    mosaic = Mosaic(Tiling.spread(6, 6, SCALE))
    wrong = np.full((18, 18, 1), 0.5, "float32")
    wrong[3, 3] = value
    with pytest.raises(SpinetError, match="probabilities from 0 to 1"):
        mosaic.add(mosaic.tiling.tiles[0], wrong, np.zeros((6, 6), "int16"))


@pytest.mark.parametrize("choice", [FrameChoice(), FrameChoice("clearest", 2), FrameChoice(max_cloud=0.9)])
def test_frames_that_no_tile_wants_need_not_be_read(choice):
    images, valid = make_series(16, 48, time=9)
    valid &= np.random.default_rng(1).random((9, 2, 3)).repeat(8, axis=1).repeat(16, axis=2) < 0.4
    valid[:, 5, 5] = True
    valid[3] = False
    tiling = replace(Tiling.spread(16, 48, SCALE, 16, 0), surroundings=0)
    frames = frames_to_read(valid, tiling, tiling.tiles[:1], choice)
    assert 0 < len(frames) < 8
    whole, part = (
        cut_request(Series(images[chosen], valid, np.array(chosen), (0, 0), (0, 0)), tiling, tiling.tiles[0], choice)
        for chosen in (range(9), frames)
    )
    np.testing.assert_array_equal(part.frames, whole.frames)
    np.testing.assert_array_equal(part.images, whole.images)
    valid[:, :, :16] = False  # which of them hold data only reading tells
    np.testing.assert_array_equal(frames_to_read(valid, tiling, tiling.tiles, choice), np.arange(9))


def test_what_rounding_adds_to_a_probability_is_taken_off():
    mosaic = Mosaic(Tiling.spread(6, 6, SCALE))
    almost = np.full((18, 18, 1), 1.0005, "float32")
    almost[0] = -0.0005
    mosaic.add(mosaic.tiling.tiles[0], almost, np.zeros((6, 6), "int16"))
    np.testing.assert_array_equal(mosaic.probability(), np.tile(np.arange(18)[:, None] > 0, (1, 18)))
