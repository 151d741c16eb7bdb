"""The rasters of a map as a page shows them: a level from 0 to 254 for every pixel."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from spinet_tf.errors import SpinetError
from spinet_tf.inference.geotiff import CLASSES, LEVELS, NO_DATA
from spinet_tf.inference.grid import Grid

# More would be slow to draw, and no screen shows more.
LONGEST_SIDE = 2048
# Averages of numbers up to 1 may be a rounding error above it.
_TOLERANCE = 1e-5


def read_levels(path: str | os.PathLike) -> tuple[np.ndarray, Grid]:
    """Read a map of numbers from 0 to 1, such as a probability; a large one from its overview.

    Args:
        path: a GeoTIFF of one band, float or uint8 as `write_cogs` stores it.

    Returns:
        uint8 (height, width), round(254 x number), 255 where there is no data; and the grid of the file, which has
        more pixels where it is longer than 2,048 pixels.

    Raises:
        SpinetError: if the file is not such a map, or cannot be read.

    Example:
        levels, grid = read_levels("map.tif")
    """
    with _opened(path) as file:
        if file.colorinterp[0] == ColorInterp.palette:
            raise SpinetError(
                f"Expected a map of probability or uncertainty. {path} is one of classes, by its colour table."
            )
        stored = file.read(1, out_shape=_shown_shape(file), resampling=Resampling.average)
        # A uint8 map made elsewhere may not say its scale.
        scale = 1 / LEVELS if file.dtypes[0] == "uint8" and file.scales[0] == 1 else file.scales[0]
        numbers = stored * np.float32(scale) + np.float32(file.offsets[0])
        unknown = np.isnan(numbers) if file.nodata is None else np.isnan(numbers) | (stored == file.nodata)
        grid = _grid(file)
    known = numbers[~unknown]
    if known.size and not (known.min() >= -_TOLERANCE and known.max() <= 1 + _TOLERANCE):
        raise SpinetError(
            f"Expected numbers from 0 to 1 in {path}. Received: {known.min():.4g} to {known.max():.4g}. "
            "Give the map that `spinet predict` wrote."
        )
    return np.where(unknown, NO_DATA, np.rint(LEVELS * np.clip(numbers, 0, 1))).astype(np.uint8), grid


def read_classes(path: str | os.PathLike) -> tuple[np.ndarray, Grid]:
    """Read a map of classes; a large one from its overview.

    Args:
        path: a GeoTIFF of one band, uint8: 1 cultivated, 0 not, 255 no data.

    Returns:
        uint8 (height, width), and the grid of the file, as `read_levels`.

    Raises:
        SpinetError: if the file is not such a map, or cannot be read.

    Example:
        classes, grid = read_classes("map_class.tif")
    """
    with _opened(path) as file:
        classes = file.read(1, out_shape=_shown_shape(file), resampling=Resampling.mode)
        grid = _grid(file)
    unknown = set(np.unique(classes)) - {*CLASSES, NO_DATA}
    if classes.dtype != np.uint8 or unknown:
        raise SpinetError(
            f"Expected the classes {', '.join(map(str, CLASSES))} and {NO_DATA} (no data) as uint8 in {path}. "
            f"Received: {classes.dtype} with {', '.join(map(str, sorted(unknown)[:5])) or 'these'}."
        )
    return classes, grid


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[DatasetReader]:
    if not Path(path).is_file():
        raise SpinetError(f"Expected a map, a GeoTIFF. There is no file {path}.")
    with warnings.catch_warnings():
        # Maps of scenes without position are shown too.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # No other driver: some formats name further files to be read, also on the network.
            with rasterio.open(path, driver="GTiff") as file:
                if file.count != 1:
                    raise SpinetError(f"Expected one band in {path}. It has {file.count}.")
                if file.transform.b or file.transform.d:
                    raise SpinetError(f"Expected a map whose rows run along an axis. {path} is rotated.")
                yield file
        except SpinetError:
            raise
        # What GDAL reports has no public base class.
        except Exception as error:
            raise SpinetError(f"Cannot read {path} as a GeoTIFF: {error}") from error


def _shown_shape(file: DatasetReader) -> tuple[int, int]:
    reduction = 1
    while max(file.shape) // reduction > LONGEST_SIDE:
        reduction *= 2  # as overviews do
    return max(file.height // reduction, 1), max(file.width // reduction, 1)


def _grid(file: DatasetReader) -> Grid:
    georeferenced = file.crs is not None or not file.transform.is_identity
    return Grid(file.height, file.width, file.transform if georeferenced else None, file.crs)
