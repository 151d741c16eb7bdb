"""Moments are exact, however pixels come together."""

import numpy as np
import pytest

from training.moments import Moments


def test_mean_and_deviation_in_any_parts(rng):
    frames = rng.integers(0, 65536, (6, 3, 7, 5), "uint16")
    valid = rng.random((6, 7, 5)) < 0.5
    parts = [Moments.of(*frame) for frame in zip(frames, valid, strict=True)]
    together = Moments.sum(parts)
    assert Moments.sum([Moments.sum(parts[4:]), *parts[:4][::-1]]) == together
    values = frames.transpose(0, 2, 3, 1)[valid] / 10000
    assert together.count == len(values)
    mean, std = together.statistics()
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-14)


def test_sums_do_not_overflow():
    frame = np.full((1, 2000, 2000), 65535, "uint16")
    moments = Moments.of(frame, np.ones((2000, 2000), bool))
    assert moments == Moments(4_000_000, (65535 * 4_000_000,), (65535**2 * 4_000_000,))
    mean, std = Moments.sum([moments] * 1000).statistics()
    assert (mean, std) == ([6.5535], [1e-4])


def test_frames_without_valid_pixels_count_nothing(rng):
    frame = rng.integers(0, 9, (2, 3, 3), "uint16")
    nothing = Moments.of(frame, np.zeros((3, 3), bool))
    assert nothing == Moments(0, (0, 0), (0, 0))
    something = Moments.of(frame, np.eye(3, dtype=bool))
    assert Moments.sum([nothing, something]) == something
    with pytest.raises(ZeroDivisionError):
        nothing.statistics()
