"""Windows of GeoTIFF and JPEG 2000 files, brought to a grid."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Interleaving, Resampling
from rasterio.vrt import WarpedVRT

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.sizes import require_sizes
from spinet_tf.errors import SpinetError

SUFFIXES = (".tif", ".tiff", ".jp2")

# A server that does not answer is given up on, instead of waited for without end.
# https://gdal.org/en/stable/user/configoptions.html
_REMOTE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
_SCHEMES = ("http", "https", "s3", "gs", "az")

# Floats above the first are no reflectance; nor are those above the second, where all are whole: reflectance that is
# cut at 1 or 2 may be whole over clouds.
_LARGEST_REFLECTANCE = 20
_WHOLE_REFLECTANCE = 2


class Placement(NamedTuple):
    """Where the pixels of an image lie.

    Attributes:
        crs: the coordinate reference system.
        transform: from (column, row), pixel corners, to coordinates of the CRS; rows run south.
        width: columns.
        height: rows.
    """

    crs: CRS
    transform: Affine
    width: int
    height: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top in the units of the CRS."""
        left, top = self.transform.c, self.transform.f
        return left, top + self.height * self.transform.e, left + self.width * self.transform.a, top

    def window(self, rows: slice, columns: slice) -> "Placement":
        """The part with those rows and columns."""
        transform = self.transform @ Affine.translation(columns.start, rows.start)
        return Placement(self.crs, transform, columns.stop - columns.start, rows.stop - rows.start)


class Layer(NamedTuple):
    """One band of a file, and how its values become digital numbers of which 10000 is reflectance 1.

    Attributes:
        href: path or address of the file.
        number: of the band in the file, from 1.
        gain: values are multiplied by it; None stands for 1, or 10000 where the values are reflectance in floats.
        shift: and it is added, where the value is data.
    """

    href: str
    number: int = 1
    gain: float | None = None
    shift: float = 0.0


@contextlib.contextmanager
def open_raster(href: str) -> Iterator[Any]:
    """Open a GeoTIFF or JPEG 2000 file with rasterio, and no other kind of file.

    Other drivers of GDAL follow what a file says to further files, or run it; hence only two.

    Args:
        href: path, or address that GDAL can read: http, https, s3, gs or az.

    Raises:
        SpinetError: if it cannot be opened, or reading inside the `with` block fails.

    Example:
        with open_raster("B02.tif") as source: source.read(1)
    """
    scheme = urlsplit(href).scheme
    if not scheme and not os.path.isfile(href):
        raise SpinetError(f"There is no file {href}.")
    if scheme and scheme not in _SCHEMES:
        raise SpinetError(f"Expected the path of a file or an address with {', '.join(_SCHEMES)}. Received: {href}.")
    driver = "JP2OpenJPEG" if urlsplit(href).path.lower().endswith(".jp2") else "GTiff"
    try:
        with rasterio.Env(**(_REMOTE if scheme else {})), rasterio.open(href, driver=driver, sharing=False) as source:
            together = source.count if source.interleaving == Interleaving.pixel else 1
            piece = (together, *source.block_shapes[0])
            require_sizes(source.shape, piece, np.dtype(source.dtypes[0]).itemsize, href)
            yield source
    except SpinetError:
        raise
    except Exception as error:  # GDAL's errors have no public base class
        raise SpinetError(f"{href} cannot be read: {error}. Copy or download it again.") from error


def read_placement(source: Any, href: str) -> Placement:
    """The placement of an opened raster.

    Raises:
        SpinetError: if it has no CRS, or its pixels are not north-up.
    """
    if source.crs is None:
        raise SpinetError(
            f"{href} has no coordinate reference system. Assign the one it was made in: "
            "gdal_edit.py -a_srs EPSG:... FILE."
        )
    return checked_placement(Placement(source.crs, source.transform, source.width, source.height), href)


def checked_placement(placement: Placement, href: str) -> Placement:
    """A placement whose CRS is that of the EPSG, where it has one.

    Raises:
        SpinetError: if its pixels are rotated, mirrored or without size.
    """
    transform = placement.transform
    finite = all(map(math.isfinite, (*transform[:6], *placement.bounds)))
    if not (finite and transform.a > 0 > transform.e and transform.b == transform.d == 0):
        raise SpinetError(
            f"Expected {href} with north up: pixels of positive width, rows from north to south, not rotated. "
            f"Received the transform {tuple(transform[:6])}. Warp it: gdalwarp -t_srs EPSG:... FILE WARPED."
        )
    if not (placement.width >= 1 and placement.height >= 1):
        raise SpinetError(f"Expected pixels in {href}. Received: {placement.height} x {placement.width}.")
    # Files and catalogues write one CRS in many ways, which are equal and yet have different hashes.
    code = placement.crs.to_epsg()
    return placement if code is None else placement._replace(crs=CRS.from_epsg(code))


def read_numbers(layers: Sequence[Layer], window: Placement) -> np.ndarray:
    """Digital numbers of layers on a window, uint16 (layer, y, x): reflectance x 10000, 0 where there is no data.

    Pixels of another size or grid are brought to the window's by nearest neighbour. A number that an offset would take
    to 0 or below becomes 1, for 0 means no data.

    Raises:
        SpinetError: if a file cannot be read.
    """
    numbers = np.empty((len(layers), window.height, window.width), "uint16")
    for href in dict.fromkeys(layer.href for layer in layers):
        positions = [n for n, layer in enumerate(layers) if layer.href == href]
        values = _read(href, [layers[n].number for n in positions], window)
        for n, band in zip(positions, values, strict=True):
            numbers[n] = to_numbers(band, layers[n].gain, layers[n].shift)
    return numbers


def read_classes(layer: Layer, window: Placement) -> np.ndarray:
    """The values of a mask on a window, (y, x), by nearest neighbour; 0 where there is no data."""
    return np.nan_to_num(_read(layer.href, [layer.number], window)[0])


def to_numbers(values: Any, gain: float | None, shift: Any, done: Any = 0.0) -> Any:
    """Values of a file as digital numbers, uint16.

    Floats without a gain are reflectance, or digital numbers that some reader made floats: those are whole, or larger
    than any reflectance.

    Args:
        values: whole numbers or floats; 0 and NaN are no data.
        gain: see `Layer`.
        shift: see `Layer`; a number, or an array that fits the values.
        done: what of the shift has been added to reflectance already.

    Returns:
        uint16 of the same shape, 0 where there is no data; data that would become less is 1.

    Example:
        >>> to_numbers(np.array([0.0, 0.1234, np.nan]), None, 0.0)
        array([   0, 1234,    0], dtype=uint16)
    """
    data = (values != 0) & (values == values)
    if gain is None:
        gain = 1.0
        if values.dtype.kind == "f" and not _are_digital_numbers(values[data]):
            gain, shift = QUANTIFICATION, shift - done
        elif values.dtype == "uint16" and not np.any(shift):
            return values
    scaled = np.where(data, values, 1).astype("float64") * gain + shift
    return np.where(data, np.rint(scaled).clip(1, np.iinfo("uint16").max), 0).astype("uint16")


def _are_digital_numbers(values: np.ndarray) -> bool:
    largest = values.max(initial=0)
    return bool(largest > _LARGEST_REFLECTANCE or (largest > _WHOLE_REFLECTANCE and np.all(values == np.rint(values))))


def _read(href: str, numbers: list[int], window: Placement) -> np.ndarray:
    grid = window._asdict()
    # Told of no-data values, GDAL would change a pixel that has one in some bands only.
    with (
        open_raster(href) as source,
        WarpedVRT(source, src_nodata=None, resampling=Resampling.nearest, **grid) as warped,
    ):
        values = warped.read(numbers)
        for band, nodata in zip(values, (source.nodatavals[number - 1] for number in numbers), strict=True):
            if nodata is not None:
                band[band == nodata] = 0
    return values
