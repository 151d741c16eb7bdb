"""Scenes: one `xarray.Dataset` for a place and its dates, whatever format it came in."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from spinet_tf.data import geotiff_folder, safe, stac
from spinet_tf.data.area import Area, AreaLike, Dates, DatesLike, choose_dates, crop_to_area, read_area, read_dates
from spinet_tf.data.cube import open_cube
from spinet_tf.data.eopatch import is_eopatch, open_eopatch
from spinet_tf.data.mosaic import open_images
from spinet_tf.data.raster import SUFFIXES
from spinet_tf.data.stac_images import images_of
from spinet_tf.data.xarray_file import checked_scene, open_xarray_file
from spinet_tf.errors import SpinetError

_FORMATS = "an EOPatch folder, a .nc file or a .zarr folder"
_SOURCES = (
    f"{_FORMATS}, a folder of GeoTIFFs, a .SAFE folder or a folder of them, STAC items in .json files or a folder of "
    "them, the address of a STAC API, or a cube of xarray"
)

_Kind = Literal["EOPatch", "xarray", "cube", "GeoTIFF", "SAFE", "STAC", "STAC API"]
# Which options of `open_scene` mean something for a source.
_OPTIONS: dict[_Kind, tuple[str, ...]] = {
    "EOPatch": (),
    "xarray": ("offset",),
    "cube": ("offset", "max_cloud"),
    "GeoTIFF": ("offset", "resolution", "pattern", "band_order"),
    "SAFE": ("offset", "resolution", "max_cloud"),
    "STAC": ("offset", "resolution", "max_cloud"),
    "STAC API": ("offset", "resolution", "max_cloud", "collection"),
}


def open_scene(
    source: Any,
    *,
    area: AreaLike | None = None,
    dates: DatesLike | None = None,
    max_cloud: float | None = None,
    collection: str | None = None,
    pattern: str | None = None,
    band_order: str | Sequence[str] | None = None,
    offset: float | None = None,
    resolution: float | None = None,
) -> xr.Dataset:
    """Open a scene, whatever it is kept in.

    Args:
        source: one of

            - an EOPatch folder of eo-learn, 2021 or 1.x layout (`spinet_tf.data.eopatch.open_eopatch`);
            - a .nc file or .zarr folder with the variables below, or with one variable for each band;
            - a folder of GeoTIFFs, one for each date or each band and date, or a single one
              (`spinet_tf.data.geotiff_folder.find_images`);
            - a Sentinel-2 Level-2A product in SAFE format, or a folder of them (`spinet_tf.data.safe.read_product`);
            - a STAC item, item collection, collection or catalogue in a .json file, a folder of such files, or items
              of pystac (`spinet_tf.data.stac_images.images_of`);
            - the address of a STAC API, with `collection` and `area`, or of a static catalogue;
            - a cube of odc-stac or stackstac (`spinet_tf.data.cube.open_cube`).
        area: what is wanted of the source: (west, south, east, north) in degrees, also as text; a GeoJSON polygon or
            the path of a file with one. The scene is every pixel that its bounding rectangle touches.
        dates: "2019-03-01/2019-09-01", a pair, or one date, in UTC, both ends included.
        max_cloud: largest cloudy fraction, 0 to 1, that an image may have by its own metadata (STAC, SAFE, stackstac).
        collection: of a STAC API, such as "sentinel-2-l2a".
        pattern: how GeoTIFFs are named: "S2_{date}_{band}.tif".
        band_order: the bands of GeoTIFFs that do not name them: "B02,B03,B04,B08".
        offset: what is added to digital numbers, instead of what metadata say: -1000, or 0 where it is applied.
        resolution: side of the pixels, in units of the CRS, of GeoTIFF, SAFE and STAC; by default that of the finest
            band, 10 m for Sentinel-2.

    Returns:
        A dataset with

        - `bands` (time, band, y, x) uint16: digital numbers, reflectance = number / 10000 with every offset applied,
          0 no data;
        - `valid` (time, y, x) bool: true where clear ground was seen; where the source has no mask, where it has data;
        - `label`, where there is one, uint8: 1 cultivated, 0 not, 255 unknown; on (y, x), or on a grid finer by a whole
          number, (y_label, x_label);
        - `weight`, where there is one, float32 on the grid of the label;
        - coordinates: `band`, the names; `time` (datetime64, UTC), y and x (pixel centres) and y_label and x_label,
          where they are known; `spatial_ref`, the CRS as rioxarray writes it (`scene.rio.crs`);
        - `attrs["name"]`: the name of the folder, or of the file without its suffix, or of the collection.

        Everything is read when needed, through dask, by windows of at most 1024 x 1024 pixels where the format allows
        it; only .npy and .npy.gz arrays of an EOPatch are read at once. Images of one solar day are one date. Images on
        different grids are brought to the most common one by nearest neighbour.

    Raises:
        SpinetError: if there is no scene, an area or date is outside of it, or a file is missing, broken, or of an
            unexpected shape or type; what breaks only when a window is read is reported then, with file and window.

    Example:
        >>> scene = open_scene("train/eopatch-902")
        >>> scene.bands.sel(band="B08").isel(time=0).rio.to_raster("nir.tif")
        >>> open_scene(
        ...     "https://earth-search.aws.element84.com/v1",
        ...     collection="sentinel-2-l2a", area=(14.5, 46.0, 14.6, 46.1), dates="2019-03-01/2019-09-01",
        ... )

    Reference:
        https://github.com/sentinel-hub/eo-learn/blob/v1.5.7/eolearn/core/eodata_io.py,
        https://corteva.github.io/rioxarray/stable/getting_started/crs_management.html
    """
    place = None if area is None else read_area(area)
    span = None if dates is None else read_dates(dates)
    kind = _kind(source)
    given = {"max_cloud": max_cloud, "collection": collection, "pattern": pattern, "band_order": band_order}
    _check_options(kind, {**given, "offset": offset, "resolution": resolution})
    name = _name_of(source, collection)
    if kind == "EOPatch":
        scene = open_eopatch(Path(source))
    elif kind == "xarray":
        scene = open_xarray_file(Path(source), offset)
    elif kind == "cube":
        is_scene = isinstance(source, xr.Dataset) and "bands" in source
        scene = checked_scene(source, name) if is_scene else open_cube(source, name, offset, max_cloud)
    else:
        if kind == "GeoTIFF":
            images = geotiff_folder.find_images(Path(source), pattern, band_order, offset)
        elif kind == "SAFE":
            images = [safe.read_product(product, offset) for product in safe.find_products(Path(source))]
        else:
            images = images_of(_items(source, kind, collection, place, span, max_cloud), offset)
        return open_images(images, name, place, span, max_cloud, resolution)
    scene = scene.assign_attrs(name=name)
    scene = scene if span is None else choose_dates(scene, span)
    return scene if place is None else crop_to_area(scene, place)


def find_scenes(path: str | os.PathLike) -> list[Path]:
    """The scenes at a path: the path itself where it is one, else those in the folder, by name.

    Args:
        path: a scene, or a folder of scenes.

    Returns:
        At least one path that `open_scene` takes.

    Raises:
        SpinetError: if there is none.

    Example:
        >>> find_scenes("train")
        [PosixPath('train/eopatch-902'), PosixPath('train/eopatch-903')]
    """
    path = Path(path)
    if _is_scene(path):
        return [path]
    scenes = sorted(filter(_is_scene, path.iterdir())) if path.is_dir() else []
    if not scenes:
        raise SpinetError(f"Expected {_FORMATS}, or a folder of them. There is none at {path}.")
    return scenes


def select_bands(scene: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The scene with the bands of those names, in that order.

    Args:
        scene: what `open_scene` returns.
        names: names of bands, such as ("B02", "B08").

    Raises:
        SpinetError: if the scene lacks some of them.

    Example:
        >>> select_bands(scene, ["B08", "B04"]).band.values
        array(['B08', 'B04'], dtype='<U3')
    """
    available = [str(name) for name in scene["band"].values]
    missing = [name for name in names if name not in available]
    if missing:
        raise SpinetError(
            f"Expected the bands {', '.join(names)}. {_name(scene)} lacks {', '.join(missing)}; "
            f"it has {', '.join(available)}."
        )
    return scene.isel(band=[available.index(name) for name in names])


def clear_fraction(scene: xr.Dataset) -> np.ndarray:
    """The share of valid pixels in each frame, float64 (time,)."""
    return scene["valid"].mean(("y", "x"), dtype="float64").to_numpy()


def require_valid_frames(scene: xr.Dataset) -> None:
    """Raise a `SpinetError` if no frame of the scene has a valid pixel."""
    if not scene["valid"].any():
        raise SpinetError(
            f"{_name(scene)} has no valid frame: each of its {scene.sizes['time']} frames is cloud or no data "
            "everywhere. Expected at least one clear pixel in one frame. Add dates."
        )


def _name(scene: xr.Dataset) -> str:
    return scene.attrs.get("name", "The scene")


def _is_scene(path: Path) -> bool:
    if path.suffix == ".nc":
        return path.is_file()
    return path.is_dir() and (path.suffix == ".zarr" or is_eopatch(path))


def _kind(source: Any) -> _Kind:
    """What a source is."""
    if isinstance(source, xr.Dataset | xr.DataArray):
        return "cube"
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return "STAC API"
    if not isinstance(source, str | os.PathLike):
        return "STAC"
    path = Path(source)
    if not path.exists():
        raise SpinetError(f"Expected {_SOURCES}. There is nothing at {path}.")
    if path.suffix in (".nc", ".zarr"):
        return "xarray"
    if path.is_dir():
        if is_eopatch(path) or (path / "data").is_dir():
            return "EOPatch"
        if safe.find_products(path):
            return "SAFE"
        if stac.is_stac_folder(path):
            return "STAC"
        if geotiff_folder.has_images(path):
            return "GeoTIFF"
    elif path.suffix.lower() in SUFFIXES:
        return "GeoTIFF"
    elif path.suffix.lower() in (".json", ".geojson"):
        return "STAC"
    raise SpinetError(f"Expected {_SOURCES}. Received: {path}.")


def _check_options(kind: _Kind, given: dict[str, Any]) -> None:
    """Raise a SpinetError for an option that means nothing for a source, or is out of range."""
    for name, value in given.items():
        if value is not None and name not in _OPTIONS[kind]:
            kinds = ", ".join(kind for kind, names in _OPTIONS.items() if name in names)
            raise SpinetError(f"The option {name} is for {kinds}. The source is {kind}: leave it away.")
    max_cloud, resolution, offset = given["max_cloud"], given["resolution"], given["offset"]
    if max_cloud is not None and not 0 <= max_cloud <= 1:
        raise SpinetError(f"Expected max_cloud from 0 to 1, where 1 is all cloud. Received: {max_cloud:g}.")
    if resolution is not None and not 0 < resolution < np.inf:
        raise SpinetError(f"Expected a resolution above 0. Received: {resolution:g}.")
    if offset is not None and not abs(offset) <= np.iinfo("uint16").max:
        raise SpinetError(f"Expected an offset such as -1000 or 0. Received: {offset:g}.")


def _name_of(source: Any, collection: str | None) -> str:
    """What a scene of the source is called."""
    if isinstance(source, xr.Dataset | xr.DataArray):
        return str(source.attrs.get("name") or getattr(source, "name", None) or "cube")
    if not isinstance(source, str | os.PathLike):
        return "items"
    if isinstance(source, str) and "://" in source:
        return collection or source
    path = Path(source)
    return path.resolve().name if path.is_dir() and path.suffix != ".zarr" else path.stem


def _items(
    source: Any, kind: _Kind, collection: str | None, area: Area | None, dates: Dates | None, max_cloud: float | None
) -> list:
    """The items of any STAC source."""
    if kind == "STAC API":
        return stac.search_items(source, collection, area, dates, max_cloud)
    if isinstance(source, str | os.PathLike):
        return stac.read_items(Path(source))
    items = stac.as_items(source)
    if not items:
        raise SpinetError(f"Expected {_SOURCES}. Received: {type(source).__name__}.")
    return items
