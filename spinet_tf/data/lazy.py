"""Arrays that are read by windows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from spinet_tf.errors import SpinetError

# Side of the largest window read at once, in pixels; also that of the tiles in Sentinel-2's JPEG 2000 files.
CHUNK = 1024


class LazyArray:
    """An array whose values a function reads, window by window; dask makes it a lazy array.

    dask merges slices into what it asks for, so a small window of a large chunk is read as a small window.

    Args:
        read: a slice with a start and a stop for each axis -> the array there.
        shape: of the whole array; rows and columns are the last two axes.
        dtype: of its values.
        source: what it is read from, for messages.

    Example:
        LazyArray(lambda y, x: numbers[y, x], numbers.shape, numbers.dtype, "numbers").chunked((100, 100))
    """

    def __init__(self, read: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: Any, source: str):
        self.read = read
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.source = source
        self.ndim = len(shape)

    def chunked(self, chunks: Any) -> Any:
        """A dask array that reads when it is computed."""
        import dask.array

        meta = np.empty((0,) * self.ndim, self.dtype)
        return dask.array.from_array(self, chunks, name=False, asarray=True, meta=meta)

    def __getitem__(self, key: tuple) -> np.ndarray:
        windows, rest = zip(*map(_split, key, self.shape), strict=True)
        shape = tuple(window.stop - window.start for window in windows)
        if 0 in shape:
            return np.zeros(shape, self.dtype)[rest]
        try:
            values = self.read(*windows)
        except Exception as error:  # what readers of damaged files raise has no common class
            said = error if isinstance(error, SpinetError) else f"{self.source} cannot be read: {error}."
            rows, columns = (f"{window.start} to {window.stop - 1}" for window in windows[-2:])
            raise SpinetError(f"{said} (Needed at rows {rows}, columns {columns}.)") from error
        # One axis after the other, as xarray and dask index.
        for axis, index in enumerate(rest):
            if isinstance(index, np.ndarray):
                values = values.take(index, axis)
                rest = (*rest[:axis], slice(None), *rest[axis + 1 :])
        return values[rest]


def _split(index: Any, length: int) -> tuple[slice, Any]:
    """The smallest window that holds what an index of an axis asks for, and the index within that window."""
    if isinstance(index, slice):
        asked = range(*index.indices(length))
        if not asked:
            return slice(0, 0), slice(None)
        low, high = min(asked[0], asked[-1]), max(asked[0], asked[-1])
        return slice(low, high + 1), slice(None, None, asked.step)
    positions = np.asarray(index)
    if positions.size == 0:
        return slice(0, 0), slice(None)
    low = int(positions.min())
    return slice(low, int(positions.max()) + 1), int(positions - low) if positions.ndim == 0 else positions - low
