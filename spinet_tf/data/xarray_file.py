"""Scenes and cubes in NetCDF and Zarr."""

from pathlib import Path
from typing import Any

import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr

from spinet_tf.data.area import require_even_spacing
from spinet_tf.data.cube import has_bands, open_cube
from spinet_tf.data.eopatch import check_label_size
from spinet_tf.data.hdf5_check import require_readable_hdf5
from spinet_tf.data.lazy import CHUNK, LazyArray
from spinet_tf.data.sizes import require_sizes
from spinet_tf.errors import SpinetError

_VARIABLES = ("bands", "valid", "label", "weight")


def open_xarray_file(path: Path, offset: float | None = None) -> xr.Dataset:
    """Open a .nc file or a .zarr folder, that of a scene or of a cube.

    Args:
        path: with the variables of a scene, see `spinet_tf.data.open_scene`, or those of a cube, one for each band, see
            `spinet_tf.data.cube.open_cube`. Other variables are left out.
        offset: of a cube, what is added to digital numbers; a scene has none left to apply.

    Returns:
        A scene whose arrays are read when needed.

    Raises:
        SpinetError: if the file is damaged, or holds neither.

    Example:
        >>> open_xarray_file(Path("scene.nc")).sizes["band"]
        12
    """
    try:
        return _open(path, offset)
    except SpinetError:
        raise
    except Exception as error:  # the readers raise dozens of types
        raise SpinetError(f"{path} cannot be read: {error}. Copy or download it again.") from error


def _open(path: Path, offset: float | None) -> xr.Dataset:
    if path.suffix == ".nc":
        require_readable_hdf5(path)
    _require_sizes(path)
    # Zarr without a look for consolidated metadata: local folders need none, and its absence would raise a warning.
    options: dict[str, Any] = (
        {"engine": "h5netcdf"} if path.suffix == ".nc" else {"engine": "zarr", "consolidated": False}
    )
    # Fill values are left in place: decoding them would turn integers into floats.
    content = xr.open_dataset(path, decode_coords="all", mask_and_scale=False, **options)
    # Some writers do not say that their variables refer to it.
    content = content.set_coords([name for name in ("spatial_ref",) if name in content])
    content = content.assign({name: _lazily(variable, path) for name, variable in content.data_vars.items()})
    if "bands" not in content and has_bands(content):
        return open_cube(content, path.stem, offset)
    if offset is not None:
        raise SpinetError(f"{path} is a scene, which has no offset left to apply. Leave the offset away.")
    return checked_scene(content, str(path))


def _require_sizes(path: Path) -> None:
    """Refuse a file with too large arrays; coordinates are read whole when it is opened."""
    if path.suffix == ".nc":
        import h5py

        with h5py.File(path) as file:
            for name, array in file.items():
                if isinstance(array, h5py.Dataset):
                    require_sizes(array.shape, array.chunks or (), array.dtype.itemsize, f"{name} in {path}")
    else:
        import zarr

        for name, array in zarr.open_group(path, mode="r", use_consolidated=False).arrays():
            require_sizes(array.shape, array.shards or array.chunks, array.dtype.itemsize, f"{name} in {path}")


def _lazily(array: xr.DataArray, path: Path) -> Any:
    """A variable whose windows are read when needed, in chunks that the file's own chunks fit."""
    variable = array.variable
    stored = variable.encoding.get("preferred_chunks", {})
    chunks = []
    for dim, length in variable.sizes.items():
        own = stored.get(dim)
        if dim == "time":
            chunks.append(own or 1)
        elif dim in ("band", "bands"):
            chunks.append(length)
        else:
            chunks.append(max(CHUNK // own, 1) * own if own else CHUNK)
    lazy = LazyArray(lambda *windows: variable[windows].values, variable.shape, variable.dtype, str(path))
    return xr.Variable(variable.dims, lazy.chunked(tuple(chunks)), variable.attrs, variable.encoding)


def checked_scene(scene: xr.Dataset, source: str) -> xr.Dataset:
    """The variables of a scene, after a look at their shapes and types.

    Raises:
        SpinetError: if the dataset is no scene.
    """
    _check(scene, source)
    scene = scene[[name for name in _VARIABLES if name in scene]]
    for axis in {"y", "x"} & set(scene.coords):
        require_even_spacing(scene[axis].values, axis, source)
    try:
        scene.rio.crs  # noqa: B018  read here, not by whoever asks first
    except Exception as error:  # rasterio's error of a damaged CRS is no ValueError
        raise SpinetError(f"The coordinate reference system of {source} cannot be understood: {error}") from error
    return scene if scene["valid"].dtype == bool else scene.assign(valid=scene["valid"] != 0)


def _check(scene: xr.Dataset, path: str) -> None:
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
