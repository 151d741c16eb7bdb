"""Only the windows that are asked for are read."""

import numpy as np
import pytest

from spinet_tf.data.lazy import LazyArray
from spinet_tf.errors import SpinetError

VALUES = np.arange(3 * 40 * 50).reshape(3, 40, 50)


@pytest.fixture
def read():
    """The windows read so far."""
    return []


@pytest.fixture
def lazy(read):
    def window(*windows):
        read.append(tuple((part.start, part.stop) for part in windows))
        return VALUES[windows]

    return LazyArray(window, VALUES.shape, VALUES.dtype, "numbers")


@pytest.mark.parametrize(
    "key",
    [
        np.s_[1:2, 5:9, 7:30],
        np.s_[:, 30:10:-3, ::7],
        np.s_[0, 3, 4:5],
        np.s_[[2, 0], 1:3, :],
        np.s_[1:1, :, :],
        np.s_[:, :, [40, 3]],
    ],
)
def test_windows_equal_those_of_numpy(lazy, key):
    np.testing.assert_array_equal(lazy[key], VALUES[key])
    np.testing.assert_array_equal(lazy.chunked((1, 16, 16))[key], VALUES[key])


def test_a_window_of_a_chunk_is_read_as_a_window(lazy, read):
    chunked = lazy.chunked((1, 16, 16))
    assert read == []
    np.testing.assert_array_equal(chunked[1:2, 18:20, 3:5], VALUES[1:2, 18:20, 3:5])
    assert read == [((1, 2), (18, 20), (3, 5))]
    # Across the border of two chunks: each part by itself.
    np.testing.assert_array_equal(chunked[2, 20, 14:18].compute(scheduler="sync"), VALUES[2, 20, 14:18])
    assert sorted(read[1:]) == [((2, 3), (20, 21), (14, 16)), ((2, 3), (20, 21), (16, 18))]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SpinetError("B02.tif is gone."), r"^B02\.tif is gone\. \(Needed at rows 2 to 3, columns 5 to 6\.\)$"),
        (OSError("disk"), r"^numbers cannot be read: disk\. \(Needed at rows 2 to 3, columns 5 to 6\.\)$"),
    ],
)
def test_failures_name_file_and_window(error, message):
    def read(*windows):
        raise error

    chunked = LazyArray(read, VALUES.shape, VALUES.dtype, "numbers").chunked((3, 40, 50))
    with pytest.raises(SpinetError, match=message):
        chunked[:, 2:4, 5:7].compute(scheduler="sync")
