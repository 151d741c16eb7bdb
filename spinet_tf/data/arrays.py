"""The array files of an EOPatch: .npy, .npy.gz and .zarr."""

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spinet_tf.data.sizes import require_sizes
from spinet_tf.errors import SpinetError

ARRAY_SUFFIXES = (".npy", ".npy.gz", ".zarr")

# Bytes read at once.
_PIECE = 1 << 20

# No deflate stream expands by more than this (RFC 1951: 258 bytes from two bits).
_LARGEST_EXPANSION = 1032


def find_array(folder: Path, feature: str) -> Path | None:
    """The file of a feature such as "data/BANDS" in an EOPatch, whichever suffix it has; None if there is none."""
    for suffix in ARRAY_SUFFIXES:
        path = folder / f"{feature}{suffix}"
        if path.exists():
            return path
    return None


def read_array(path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> Any:
    """Read an array whose shape and type are checked before its values are read.

    Args:
        path: a .npy or .npy.gz file, or a .zarr folder.
        shape: the expected shape; None stands for any length of at least 1.
        dtypes: the names of the types that may come, as `numpy.dtype.name` gives them.

    Returns:
        A NumPy array, or for .zarr a dask array that reads when computed.

    Raises:
        SpinetError: if the file is truncated, corrupt or unreadable, or holds another shape or type. Object arrays are
            always refused: reading them would run the pickle inside.

    Reference:
        https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    with _reporting(path):
        if path.suffix == ".zarr":
            return _open_zarr(path, shape, dtypes)
        with _open_npy(path) as file:
            return _read_npy(file, path, shape, dtypes)


def read_shape(path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of an array, from the head of its file; arguments and errors are those of `read_array`."""
    with _reporting(path):
        if path.suffix == ".zarr":
            return _open_zarr(path, shape, dtypes).shape
        with _open_npy(path) as file:
            return _read_head(file, path, shape, dtypes)[0]


@contextlib.contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Make one kind of error of those that readers raise."""
    try:
        yield
    except SpinetError:
        raise
    except (EOFError, zlib.error) as error:
        raise SpinetError(f"{path} is truncated or corrupt ({error}). Copy or download it again.") from error
    except Exception as error:  # damaged heads raise errors of Python's tokenizer, and more
        raise SpinetError(f"{path} is not a readable array: {error}. Copy or download it again.") from error


def _open_npy(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _open_zarr(path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> Any:
    import dask.array
    import zarr

    array = zarr.open_array(os.fspath(path), mode="r")
    _check(path, array.shape, array.dtype, shape, dtypes)
    require_sizes(array.shape, array.shards or array.chunks, array.dtype.itemsize, str(path))
    return dask.array.from_zarr(array)


def _read_head(
    file: Any, path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and type; all that precedes the values is then read."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise SpinetError(f"Expected version 1.0 or 2.0 of the NPY format in {path}. Received: {version}.")
    found, fortran, dtype = read_header(file)
    _check(path, found, dtype, shape, dtypes)
    return found, fortran, dtype


def _read_npy(file: Any, path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> np.ndarray:
    found, fortran, dtype = _read_head(file, path, shape, dtypes)
    size = int(np.prod(found, dtype=object)) * dtype.itemsize
    if size > path.stat().st_size * _LARGEST_EXPANSION:
        raise SpinetError(f"{path} announces {size} bytes, more than it can hold: it is corrupt.")
    # Into the array itself: a scene of the challenge takes 230 MB, and need not be in memory twice.
    array = np.empty(found, dtype, order="F" if fortran else "C")
    memory = array.ravel(order="K").view("uint8").data
    received = 0
    # In pieces: a gzip file asked for all of it makes all of it first, and then copies.
    while count := file.readinto(memory[received : received + _PIECE]):
        received += count
    if received < size:
        raise SpinetError(
            f"{path} is truncated: expected {size} bytes, received {received}. Copy or download it again."
        )
    file.read(1)  # reaching the end of a gzip file compares its checksum
    return array.astype(dtype.newbyteorder("="), copy=False)


def _check(
    path: Path, found: tuple[int, ...], dtype: np.dtype, shape: tuple[int | None, ...], dtypes: tuple[str, ...]
) -> None:
    if dtype.name not in dtypes:
        raise SpinetError(f"Expected {' or '.join(dtypes)} in {path}. Received: {dtype.name}.")
    fits = len(found) == len(shape) and all(
        length >= 1 and expected in (None, length) for length, expected in zip(found, shape, strict=True)
    )
    if not fits:
        described = ", ".join("any" if length is None else str(length) for length in shape)
        raise SpinetError(f"Expected the shape ({described}) in {path}. Received: {found}.")
