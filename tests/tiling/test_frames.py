"""Frames are chosen by what clear ground they show."""

import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import FrameChoice, choose_frames, count_frames

CLEAR = np.array([0.0, 0.75, 0.2, 1.0, 0.74, 0.9, 1.0, 0.0])


def test_all_takes_at_most_the_cloud_allowed():
    np.testing.assert_array_equal(choose_frames(CLEAR), [1, 3, 5, 6])
    np.testing.assert_array_equal(choose_frames(CLEAR, max_cloud=0.1), [3, 5, 6])
    np.testing.assert_array_equal(choose_frames(CLEAR, max_cloud=1), [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("method", ["all", "random"])
def test_without_a_clear_enough_frame_the_clearest_is_taken(method):
    np.testing.assert_array_equal(choose_frames(CLEAR[[0, 2, 4, 7]], method), [2])


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [6]), (2, [3, 6]), (3, [3, 5, 6]), (5, [1, 3, 4, 5, 6]), (20, [1, 2, 3, 4, 5, 6])]
)
def test_clearest_takes_the_clearest_in_order_of_time(count, expected):
    np.testing.assert_array_equal(choose_frames(CLEAR, "clearest", count), expected)


def test_equally_clear_frames_are_spread_over_the_series():
    clear = np.ones(12)
    np.testing.assert_array_equal(choose_frames(clear, "clearest", 4), [1, 4, 7, 10])
    clear[[2, 6]] = 0.5
    np.testing.assert_array_equal(choose_frames(clear, "clearest", 5), [1, 4, 7, 9, 11])
    # Of the ten clear ones all, and one of the others.
    np.testing.assert_array_equal(choose_frames(clear, "clearest", 11), np.delete(np.arange(12), 2))
    for count in range(1, 13):
        assert len(np.unique(choose_frames(clear, "clearest", count))) == count


def test_random_takes_each_clear_frame_equally_often():
    rng = np.random.default_rng(0)
    taken = np.zeros(len(CLEAR))
    for _ in range(2000):
        frames = choose_frames(CLEAR, "random", count=2, rng=rng)
        assert np.all(np.diff(frames) > 0)
        assert len(frames) == 2
        taken[frames] += 1
    np.testing.assert_allclose(taken[[1, 3, 5, 6]], 1000, atol=100)
    assert taken.sum() == 4000


def test_random_repeats_with_its_seed_and_takes_all_when_few():
    first, second = (choose_frames(CLEAR, "random", 3, rng=np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(choose_frames(CLEAR, "random", 9), [1, 3, 5, 6])


def test_a_frame_of_exactly_the_cloud_allowed_is_taken():
    for pixels in range(2, 60):
        for cloudy in range(pixels):
            fraction = np.mean(np.arange(pixels) >= cloudy)
            # Shards keep fractions as float32.
            for stored in (fraction, np.float32(fraction)):
                chosen = choose_frames([1.0, stored], max_cloud=cloudy / pixels)
                np.testing.assert_array_equal(chosen, [0, 1])


@pytest.mark.parametrize("method", ["all", "clearest", "random"])
@pytest.mark.parametrize(("count", "max_cloud"), [(1, 0.25), (3, 0.4), (20, 0), (20, 1)])
def test_frames_are_counted_as_they_are_chosen(method, count, max_cloud, rng):
    clear = np.round(rng.random((50, 9)) * (rng.random((50, 9)) < 0.7), 1).astype("float32")
    clear[:, 4] = 0.1
    counted = count_frames(clear, method, count, max_cloud)
    np.testing.assert_array_equal(counted, [len(choose_frames(row, method, count, max_cloud)) for row in clear])
    assert not count_frames(np.zeros((2, 3)), method, count, max_cloud).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), "at least one frame with a valid pixel. Received: 3 frames"),
        ((np.zeros(0), "clearest"), "Received: 0 frames"),
        ((CLEAR, "best"), "all, clearest, random. Received: 'best'"),
        ((CLEAR, "clearest", 0), "at least 1 frame. Received: 0"),
        ((CLEAR, "all", 1, 1.5), "from 0 to 1. Received: 1.5"),
    ],
)
def test_errors_say_what_was_expected(arguments, message):
    with pytest.raises(SpinetError, match=message):
        choose_frames(*arguments)


def test_a_choice_for_maps_repeats_and_allows_no_frames():
    np.testing.assert_array_equal(FrameChoice("clearest", 3).choose(CLEAR), [3, 5, 6])
    np.testing.assert_array_equal(FrameChoice(max_cloud=0.1).choose(CLEAR), [3, 5, 6])
    assert FrameChoice().choose(np.zeros(3)).shape == (0,)
    with pytest.raises(SpinetError, match="no map repeats"):
        FrameChoice("random")
    with pytest.raises(SpinetError, match="at least 1 frame"):
        FrameChoice(count=0)
