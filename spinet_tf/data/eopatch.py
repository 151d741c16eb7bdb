"""EOPatches, the folders in which eo-learn keeps a scene, as scenes; neither eo-learn nor sentinelhub is needed."""

import datetime
import gzip
import json
import math
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr
from rasterio.crs import CRS

from spinet_tf.bands import BANDS, QUANTIFICATION
from spinet_tf.data.arrays import ARRAY_SUFFIXES, find_array, read_array, read_shape
from spinet_tf.data.masks import clear_ground
from spinet_tf.data.pickles import LARGEST_PICKLE, load_pickle
from spinet_tf.errors import SpinetError

NOT_DECLARED = 255

_BANDS_SHAPE = (None, None, None, len(BANDS))
_FLAGS = ("bool", "uint8")
# What reading metadata of unknown content may raise; SpinetError is a ValueError.
_UNREADABLE = (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class BoundingBox(NamedTuple):
    """Outer edges of a patch in the units of `crs`."""

    left: float
    bottom: float
    right: float
    top: float
    crs: CRS


def is_eopatch(path: Path) -> bool:
    """Whether `path` is a folder with an array of bands where an EOPatch has it."""
    return find_array(path, "data/BANDS") is not None


def open_eopatch(path: Path) -> xr.Dataset:
    """Open an EOPatch with the features of the AI4EO challenge as a scene.

    Both layouts are read: that of eo-learn before 1.0 (arrays .npy.gz; timestamp and bbox as pickles) and that of 1.x
    (.npy, .npy.gz or .zarr arrays; timestamps.json and bbox.geojson, gzipped or not). These features are read:

    - data/BANDS, uint16 (time, y, x, 12), in the order of `spinet_tf.bands.BANDS`;
    - scalar/NORM_FACTORS, float (time, 1): reflectance = number x factor; without it, 0.0001. Numbers are rescaled so
      that the scene's, divided by 10000, are reflectance; 0 means no data and stays 0;
    - mask/IS_DATA, mask/CLM and mask/SCL (time, y, x, 1): a pixel is valid where IS_DATA is true, CLM is 0 (255 is
      no data), SCL is 4, 5, 6 or 7 and some band is not 0; a mask that is absent excludes nothing;
    - mask_timeless/CULTIVATED and NOT_DECLARED (y_label, x_label, 1): the label, 1, 0 or 255 where not declared;
      without CULTIVATED the scene has no label.

    Pickles are read by `spinet_tf.data.pickles` alone. Where dates or box cannot be read, a `UserWarning` says why
    and the scene has no `time` coordinate, or no y and x and no CRS.

    Args:
        path: the folder of the EOPatch.

    Returns:
        A scene as `spinet_tf.data.open_scene` describes it; .zarr arrays are read when needed, others at once.

    Raises:
        SpinetError: if an array is missing, broken, or has an unexpected shape or type.

    Example:
        >>> open_eopatch(Path("train/eopatch-902")).sizes
        Frozen({'time': 21, 'band': 12, 'y': 500, 'x': 500, 'y_label': 2000, 'x_label': 2000})

    Reference:
        https://github.com/sentinel-hub/eo-learn/blob/v1.5.7/eolearn/core/eodata_io.py
    """
    path = Path(path)
    bands = read_array(_bands_file(path), _BANDS_SHAPE, ("uint16",))
    frames, height, width, _ = bands.shape

    bands = _normalised(bands, path)
    coordinates: dict[str, Any] = {"band": list(BANDS)}
    variables = {
        "bands": (("time", "band", "y", "x"), bands.transpose(0, 3, 1, 2)),
        "valid": (("time", "y", "x"), _valid(bands, path)),
    }
    label = _label(path, height, width)
    if label is not None:
        own_grid = label.shape != (height, width)
        variables["label"] = (("y_label", "x_label") if own_grid else ("y", "x"), label)

    dates = _or_warn("dates", _dates, path, frames)
    if dates is not None:
        coordinates["time"] = dates
    box = _or_warn("georeference", _box, path)
    if box is not None:
        coordinates["y"], coordinates["x"] = _centres(box, height, width)
        if label is not None and own_grid:
            coordinates["y_label"], coordinates["x_label"] = _centres(box, *label.shape)

    scene = xr.Dataset(variables, coordinates)
    if box is None:
        return scene
    # By way of a dataset without arrays: `.rio` and its dataset refer to each other, which would keep arrays in memory,
    # after their last use, until Python looks for such rings. That is hardly ever once TensorFlow is loaded.
    spatial_ref = xr.Dataset().rio.write_crs(box.crs)["spatial_ref"]
    for name in ("bands", "valid"):
        scene.variables[name].encoding["grid_mapping"] = spatial_ref.name
    return scene.assign_coords({spatial_ref.name: spatial_ref})


def read_eopatch_sizes(path: Path) -> tuple[tuple[int, int, int], tuple[int, int] | None]:
    """Frames, height and width of an EOPatch, and height and width of its label; None without one.

    Only the heads of the files are read.

    Raises:
        SpinetError: if an array is missing or has an unexpected shape or type.
    """
    frames, height, width, _ = read_shape(_bands_file(path), _BANDS_SHAPE, ("uint16",))
    file = find_array(path, "mask_timeless/CULTIVATED")
    if file is None:
        return (frames, height, width), None
    rows, columns, _ = read_shape(file, (None, None, 1), _FLAGS)
    check_label_size((height, width), (rows, columns), file)
    return (frames, height, width), (rows, columns)


def check_label_size(image: tuple[int, int], label: tuple[int, int], path: Path | str) -> None:
    """Raise a SpinetError unless the grid of the label is that of the images, or finer by a whole number."""
    scale = label[0] // image[0]
    if scale < 1 or label != (scale * image[0], scale * image[1]):
        raise SpinetError(
            f"Label of the wrong size: expected {image[0]} x {image[1]} pixels, the size of the images, or that times "
            f"a whole number, in {path}. Received: {label[0]} x {label[1]}."
        )


def _bands_file(path: Path) -> Path:
    file = find_array(path, "data/BANDS")
    if file is None:
        raise SpinetError(
            f"Expected the bands of an EOPatch in {path / 'data'} as BANDS, with one of the suffixes "
            f"{', '.join(ARRAY_SUFFIXES)}. There is none."
        )
    return file


def _normalised(bands: Any, path: Path) -> Any:
    """Digital numbers of which 10000 is reflectance 1."""
    file = find_array(path, "scalar/NORM_FACTORS")
    if file is None:
        return bands
    factors = np.asarray(read_array(file, (len(bands), 1), ("float32", "float64")))
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise SpinetError(f"Expected finite factors above 0 in {file}.")
    scale = factors * QUANTIFICATION
    if np.allclose(scale, 1, rtol=1e-6, atol=0):
        return bands
    # 0 means no data, so a dark pixel must not become one.
    scaled = np.rint(bands * scale.astype("float64")[:, :, None, None]).clip(1, np.iinfo("uint16").max)
    return np.where(bands == 0, 0, scaled).astype("uint16")


def _valid(bands: Any, path: Path) -> Any:
    """Where clear ground was seen, (time, y, x)."""
    shape = (*bands.shape[:3], 1)
    masks = {}
    for kind, name, dtypes in (("VALID", "IS_DATA", _FLAGS), ("CLM", "CLM", _FLAGS), ("SCL", "SCL", ("uint8",))):
        if (file := find_array(path, f"mask/{name}")) is not None:
            masks[kind] = read_array(file, shape, dtypes)[..., 0]
    return clear_ground((bands != 0).any(axis=-1), masks)


def _label(path: Path, height: int, width: int) -> Any:
    """1 cultivated, 0 not, 255 not declared; None without CULTIVATED."""
    file = find_array(path, "mask_timeless/CULTIVATED")
    if file is None:
        return None
    cultivated = read_array(file, (None, None, 1), _FLAGS)
    check_label_size((height, width), cultivated.shape[:2], file)
    label = (cultivated[..., 0] != 0).astype("uint8")
    if (file := find_array(path, "mask_timeless/NOT_DECLARED")) is not None:
        label[read_array(file, cultivated.shape, _FLAGS)[..., 0] != 0] = NOT_DECLARED
    return label


def _or_warn(what: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` gives; None and a warning where it fails, for a patch is of use without dates or place."""
    try:
        return read(*arguments)
    except _UNREADABLE as error:
        # The level of whoever called open_scene.
        warnings.warn(f"{arguments[0]} is opened without {what}: {error}", UserWarning, stacklevel=4)
        return None


def _dates(path: Path, frames: int) -> np.ndarray:
    file, content = _metadata(path, ("timestamps", "timestamp"), ".json")
    if isinstance(content[0], str):
        content = [datetime.datetime.fromisoformat(text) for text in content]
    dates = np.array([_utc(date) for date in content], "datetime64[ns]")
    if len(dates) != frames:
        raise SpinetError(f"expected {frames} dates, one for each frame, in {file}. Received: {len(dates)}.")
    return dates


def _utc(date: datetime.datetime) -> datetime.datetime:
    """Without a time zone, as datetime64 needs it."""
    return date if date.tzinfo is None else date.astimezone(datetime.UTC).replace(tzinfo=None)


def _box(path: Path) -> BoundingBox:
    file, content = _metadata(path, ("bbox",), ".geojson")
    if isinstance(content, dict):
        corners = np.array(content["coordinates"][0], "float64")
        left, bottom = corners.min(axis=0)
        right, top = corners.max(axis=0)
        name = content["crs"]["properties"]["name"]
    else:
        left, bottom, right, top = content.min_x, content.min_y, content.max_x, content.max_y
        name = (content._crs if hasattr(content, "_crs") else content.crs).value
    code = re.fullmatch(r"(?:urn:ogc:def:crs:EPSG:[\d.]*:|EPSG:)?(\d+)", str(name))
    if code is None:
        raise SpinetError(f"expected the EPSG code of a coordinate reference system in {file}. Received: {name}.")
    box = BoundingBox(float(left), float(bottom), float(right), float(top), CRS.from_epsg(int(code[1])))
    if not (all(map(math.isfinite, box[:4])) and box.left < box.right and box.bottom < box.top):
        raise SpinetError(f"expected left < right and bottom < top in {file}. Received: {box[:4]}.")
    return box


def _metadata(path: Path, names: tuple[str, ...], json_suffix: str) -> tuple[Path, Any]:
    """The first of the files that exists, and what it holds."""
    for name in names:
        for suffix in (json_suffix, f"{json_suffix}.gz", ".pkl", ".pkl.gz"):
            file = path / f"{name}{suffix}"
            if file.exists():
                with gzip.open(file) if suffix.endswith(".gz") else file.open("rb") as stream:
                    data = stream.read(LARGEST_PICKLE + 1)
                return file, load_pickle(data, str(file)) if ".pkl" in suffix else json.loads(data)
    raise SpinetError(f"there is no {names[0]}{json_suffix} and no {names[-1]}.pkl.gz.")


def _centres(box: BoundingBox, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The y, from the top, and x coordinates of pixel centres."""
    y = box.top - (np.arange(height) + 0.5) * (box.top - box.bottom) / height
    x = box.left + (np.arange(width) + 0.5) * (box.right - box.left) / width
    return y, x
