"""Scenes: one `xarray.Dataset` for a place and its dates, whatever format it came in."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr

from spinet_tf.data.eopatch import check_label_size, is_eopatch, open_eopatch
from spinet_tf.errors import SpinetError

_VARIABLES = ("bands", "valid", "label", "weight")
_FORMATS = "an EOPatch folder, a .nc file or a .zarr folder"


def open_scene(path: str | os.PathLike) -> xr.Dataset:
    """Open a scene: an EOPatch of eo-learn (2021 or 1.x layout), a NetCDF file or a Zarr folder.

    Args:
        path: an EOPatch folder (`spinet_tf.data.eopatch.open_eopatch` says what is read of it), or a .nc file or .zarr
            folder whose variables are those below; other variables are left out.

    Returns:
        A dataset with

        - `bands` (time, band, y, x) uint16: digital numbers, reflectance = number / 10000 with every offset applied,
          0 no data;
        - `valid` (time, y, x) bool: true where clear ground was seen;
        - `label`, where there is one, uint8: 1 cultivated, 0 not, 255 unknown; on (y, x), or on a grid finer by a whole
          number, (y_label, x_label);
        - `weight`, where there is one, float32 on the grid of the label;
        - coordinates: `band`, the names, in the file's order; `time` (datetime64, UTC), y and x (pixel centres) and
          y_label and x_label, where they are known; `spatial_ref`, the CRS as rioxarray writes it (`scene.rio.crs`);
        - `attrs["name"]`: the name of the folder, or of the file without its suffix.

        NetCDF and Zarr are read when needed, through dask; .npy and .npy.gz arrays of an EOPatch at once.

    Raises:
        SpinetError: if there is no scene, or a variable is missing, broken, or of an unexpected shape or type.

    Example:
        >>> scene = open_scene("train/eopatch-902")
        >>> scene.bands.sel(band="B08").isel(time=0).rio.to_raster("nir.tif")

    Reference:
        https://github.com/sentinel-hub/eo-learn/blob/v1.5.7/eolearn/core/eodata_io.py,
        https://corteva.github.io/rioxarray/stable/getting_started/crs_management.html
    """
    path = Path(path)
    if not path.exists():
        raise SpinetError(f"Expected {_FORMATS}. There is nothing at {path}.")
    if path.suffix == ".nc":
        scene = _open_xarray(path, engine="h5netcdf")
    elif path.suffix == ".zarr":
        # Without a look for consolidated metadata: local folders need none, and its absence would raise a warning.
        scene = _open_xarray(path, engine="zarr", consolidated=False)
    elif path.is_dir():
        scene = open_eopatch(path)
    else:
        raise SpinetError(f"Expected {_FORMATS}. Received: {path}.")
    scene.attrs["name"] = path.stem if path.suffix in (".nc", ".zarr") else path.resolve().name
    return scene


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


def _open_xarray(path: Path, **options) -> xr.Dataset:
    try:
        # Fill values are left in place: decoding them would turn integers into floats.
        raw = dict.fromkeys(_VARIABLES, False)
        scene = xr.open_dataset(path, decode_coords="all", chunks={}, mask_and_scale=raw, **options)
    except Exception as error:  # the readers raise dozens of types
        raise SpinetError(f"{path} cannot be read: {error}. Copy or download it again.") from error
    _check(scene, path)
    scene = scene[[name for name in _VARIABLES if name in scene]]
    scene["valid"] = scene["valid"] != 0
    return scene


def _check(scene: xr.Dataset, path: Path) -> None:
    """Raise a SpinetError unless the dataset is a scene."""
    for name, dims, kinds in (
        ("bands", (("time", "band", "y", "x"),), ("uint16",)),
        ("valid", (("time", "y", "x"),), ("bool", "uint8", "int8")),
        ("label", (("y", "x"), ("y_label", "x_label")), ("uint8",)),
        ("weight", (("y", "x"), ("y_label", "x_label")), ("float32",)),
    ):
        if name not in scene:
            if name in ("bands", "valid"):
                raise SpinetError(
                    f"Expected a variable `{name}` in {path}. It has: {', '.join(map(str, scene.data_vars))}."
                )
            continue
        variable = scene[name]
        if variable.dims not in dims or variable.dtype.name not in kinds:
            raise SpinetError(
                f"Expected `{name}` as {' or '.join(map(_listed, dims))} of {' or '.join(kinds)} in {path}. "
                f"Received: {_listed(variable.dims)} of {variable.dtype.name}."
            )
        if "scale_factor" in variable.attrs or "add_offset" in variable.attrs:
            raise SpinetError(f"`{name}` in {path} has a scale or an offset left to apply. Expected final numbers.")
    if "band" not in scene.coords or not scene.indexes["band"].is_unique:
        raise SpinetError(f"Expected a coordinate `band` with the names of the bands, each once, in {path}.")
    if "time" in scene.coords and scene["time"].dtype.kind != "M":
        raise SpinetError(f"Expected dates in the coordinate `time` of {path}. Received: {scene['time'].dtype.name}.")
    if "label" in scene and scene["label"].dims == ("y_label", "x_label"):
        sizes = scene.sizes
        check_label_size((sizes["y"], sizes["x"]), (sizes["y_label"], sizes["x_label"]), path)
    if "weight" in scene and ("label" not in scene or scene["weight"].dims != scene["label"].dims):
        raise SpinetError(f"Expected `weight` on the grid of `label` in {path}.")


def _listed(dims: tuple) -> str:
    return f"({', '.join(map(str, dims))})"
