"""Frames are chosen and left out, and patches turned and jittered, as asked for."""

import numpy as np
import pytest

from spinet_tf.data.patches import Patch, turn
from spinet_tf.data.sampling import Sampling, stream
from spinet_tf.errors import SpinetError


def constant_patch(value=1000, frames=6, size=8, bands=5):
    fine = np.arange(4 * size * size).reshape(2 * size, 2 * size, 1)
    return Patch(
        np.full((frames, size, size, bands), value, "uint16"), (fine % 3 == 0).astype("uint8"), fine.astype("float32")
    )


def test_streams_depend_on_seed_and_key_alone():
    drawn = {(seed, key): stream(seed, *key).random() for seed in range(3) for key in ((0, 1), (1, 0), (0, 0), (0,))}
    assert len(set(drawn.values())) == len(drawn)
    assert stream(2, 1, 0).random() == drawn[2, (1, 0)]


def test_counts_come_from_the_whole_range():
    drawn = [Sampling(count=(3, 6)).draw_count(stream(0, number)) for number in range(200)]
    assert set(drawn) == {3, 4, 5, 6}
    assert Sampling(count=7).draw_count(stream(0)) == 7
    assert Sampling(count=(3, 6)).counts == (3, 6)


def test_each_frame_is_left_out_as_often_as_asked():
    frames = np.arange(40)
    kept = [Sampling(frame_dropout=0.3).drop(frames, stream(0, number)) for number in range(200)]
    assert 0.68 < np.mean([len(row) for row in kept]) / 40 < 0.72
    assert all(np.all(np.diff(row) > 0) for row in kept)
    assert np.bincount(np.concatenate(kept), minlength=40).min() > 90
    assert Sampling().drop(frames, stream(0)) is frames


def test_a_range_of_dropout_gives_series_of_all_lengths():
    frames = np.arange(20)
    sampling = Sampling(frame_dropout=(0.2, 0.9))
    kept = np.array([len(sampling.drop(frames, stream(0, number))) for number in range(2000)])
    # The mean of the probabilities is 0.55; one at a time they would spread by 2.2 frames, not by 4.6.
    assert kept.mean() == pytest.approx(20 * 0.45, abs=0.3)
    assert kept.std() == pytest.approx(np.sqrt(20**2 * 0.7**2 / 12 + 20 * 0.2067), abs=0.2)
    assert {1, 2, 10, 17} <= set(kept)


def test_one_frame_always_stays():
    kept = [Sampling(frame_dropout=0.99).drop(np.array([3, 5, 8]), stream(0, number)) for number in range(100)]
    assert min(map(len, kept)) == 1
    assert {int(row[0]) for row in kept} == {3, 5, 8}


def test_jitter_is_a_factor_for_each_frame_and_one_for_each_band():
    images = Sampling(jitter=0.1, augment=False).vary(constant_patch(20000), stream(0)).images
    assert np.all(images == images[:, :1, :1])
    log = np.log(images[:, 0, 0] / 20000)
    np.testing.assert_allclose(log - log[:1] - log[:, :1] + log[0, 0], 0, atol=2e-4)
    assert np.ptp(log, axis=0).min() > 0.05
    assert np.ptp(log, axis=1).min() > 0.05


def test_jitter_is_as_strong_as_asked():
    sampling = Sampling(jitter=0.05, augment=False)
    varied = [
        sampling.vary(constant_patch(20000, 1, 1, 1), stream(0, number)).images[0, 0, 0, 0] for number in range(2000)
    ]
    log = np.log(np.array(varied) / 20000)
    assert abs(log.mean()) < 0.005
    assert abs(log.std() - 0.05) < 0.004


def test_jitter_rounds_to_the_nearest_number():
    images = Sampling(jitter=0.01).vary(constant_patch(3, frames=50), stream(0)).images
    np.testing.assert_array_equal(images, 3)


def test_jitter_keeps_no_data_and_makes_none():
    patch = constant_patch(frames=50)
    patch.images[..., 0], patch.images[..., 1], patch.images[..., 2] = 0, 1, 65535
    images = Sampling(jitter=1).vary(patch, stream(0)).images
    assert images.dtype == np.uint16
    assert not images[..., 0].any()
    assert images[..., 1:].all()
    assert images[..., 2].max() == 65535
    np.testing.assert_array_equal(patch.images[..., 1], 1)


def test_without_jitter_only_the_turn_changes():
    patch = constant_patch()
    patch.images[:] = np.arange(64).reshape(8, 8, 1)
    assert Sampling(augment=False).vary(patch, stream(0)) is patch
    turned = [Sampling().vary(patch, stream(0, number)) for number in range(60)]
    seen = set()
    for varied in turned:
        same = [k for k in range(8) if np.array_equal(turn(patch, k).images, varied.images)]
        assert len(same) == 1
        np.testing.assert_array_equal(turn(patch, same[0]).weight, varied.weight)
        np.testing.assert_array_equal(turn(patch, same[0]).label, varied.label)
        seen.add(same[0])
    assert seen == set(range(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": "best"}, "all, clearest, random. Received: 'best'"),
        ({"count": 0}, "at least 1 frame. Received: 0"),
        ({"count": (0, 4)}, "at least 1 frame. Received: 0"),
        ({"count": (5, 4)}, r"pair \(low, high\) of them. Received: \(5, 4\)"),
        ({"count": (1, 2, 3)}, "pair"),
        ({"count": 2.5}, "pair"),
        ({"max_cloud": 1.1}, "max_cloud from 0 to 1. Received: 1.1"),
        ({"jitter": -0.1}, "jitter from 0 to 1. Received: -0.1"),
        ({"jitter": float("nan")}, "jitter"),
        ({"frame_dropout": 1}, "frame_dropout from 0 to below 1. Received: 1"),
        ({"frame_dropout": (0.5, 0.2)}, r"frame_dropout from 0 to below 1. Received: \(0.5, 0.2\)"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(SpinetError, match=message):
        Sampling(**options)
