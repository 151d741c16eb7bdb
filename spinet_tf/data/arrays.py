"""The array files of an EOPatch: .npy, .npy.gz and .zarr."""

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spinet_tf.errors import SpinetError

ARRAY_SUFFIXES = (".npy", ".npy.gz", ".zarr")

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
    try:
        if path.suffix == ".zarr":
            import dask.array

            array = dask.array.from_zarr(os.fspath(path))
            _check(path, array.shape, array.dtype, shape, dtypes)
            return array
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read_npy(file, path, shape, dtypes)
    except SpinetError:
        raise
    except (EOFError, zlib.error) as error:
        raise SpinetError(f"{path} is truncated or corrupt ({error}). Copy or download it again.") from error
    except (OSError, ValueError, KeyError, MemoryError) as error:
        raise SpinetError(f"{path} is not a readable array: {error}. Copy or download it again.") from error


def _read_npy(file: Any, path: Path, shape: tuple[int | None, ...], dtypes: tuple[str, ...]) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise SpinetError(f"Expected version 1.0 or 2.0 of the NPY format in {path}. Received: {version}.")
    found, fortran, dtype = read_header(file)
    _check(path, found, dtype, shape, dtypes)
    size = int(np.prod(found, dtype=object)) * dtype.itemsize
    if size > path.stat().st_size * _LARGEST_EXPANSION:
        raise SpinetError(f"{path} announces {size} bytes, more than it can hold: it is corrupt.")
    data = file.read(size)
    if len(data) < size:
        raise SpinetError(
            f"{path} is truncated: expected {size} bytes, received {len(data)}. Copy or download it again."
        )
    file.read(1)  # reaching the end of a gzip file compares its checksum
    array = np.frombuffer(data, dtype).reshape(found, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))  # a copy: what views a bytes object cannot be written to


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
