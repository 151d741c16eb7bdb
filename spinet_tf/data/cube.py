"""Cubes of xarray as odc-stac, stackstac and openEO make them."""

import warnings

import numpy as np
import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr
from rasterio.crs import CRS

from spinet_tf.bands import BANDS, QUANTIFICATION
from spinet_tf.data.area import longitude_at, require_even_spacing
from spinet_tf.data.band_names import MASKS, band_of
from spinet_tf.data.masks import clear_ground
from spinet_tf.data.raster import to_numbers
from spinet_tf.data.stac_offset import announced, scaling
from spinet_tf.errors import SpinetError

Cube = xr.Dataset | xr.DataArray

_DIMS = {"t": "time", "bands": "band", "latitude": "y", "longitude": "x", "lat": "y", "lon": "x"}
_GRID = {"time", "y", "x"}
# Centres of pixels lie half a pixel from their edges; coordinates this near to an edge, in pixels, are corners.
_CORNER = 0.1


def open_cube(cube: Cube, name: str, offset: float | None = None, max_cloud: float | None = None) -> xr.Dataset:
    """Make a scene of a cube; what dask has not computed stays so.

    Args:
        cube: a dataset with a variable (time, y, x) for each band, as odc-stac and openEO give it, or an array (time,
            band, y, x) with the bands' names as coordinate, as stackstac gives it. Names are those of assets, such as
            "B02" or "red". Numbers are digital numbers or reflectance, NaN is no data. A band "SCL" or "scl" tells
            where ground is clear. STAC properties kept as coordinates are understood as those of items.
        name: of the scene.
        offset: what is added to digital numbers; by default what the coordinates say, else 0 and a warning.
        max_cloud: images with more, by the coordinate "eo:cloud_cover", are left out.

    Returns:
        A scene as `spinet_tf.data.open_scene` describes it; of several images of one solar day, the first that shows
        clear ground counts, else the first that holds data.

    Raises:
        SpinetError: if it has no bands of Sentinel-2, other dimensions, or no regular grid.

    Example:
        open_cube(odc.stac.load(items, bands=["red", "nir", "scl"], chunks={}), "summer", offset=0)

    Reference:
        https://odc-stac.readthedocs.io, https://stackstac.readthedocs.io
    """
    crs = _crs(cube, name)
    cube = _ordered(cube, name, max_cloud)
    arrays = _arrays(cube, name)
    masks = {kind: _bare(arrays.pop(kind)).fillna(0) for kind in MASKS if kind in arrays}
    if not arrays:
        raise SpinetError(f"Expected bands of Sentinel-2 in {name}. There are only masks.")
    converted, known = zip(*(_numbers(array, offset) for array in arrays.values()), strict=True)
    if not all(known):
        warnings.warn(
            f"{name}: nothing says whether an offset is left to apply; the numbers are taken as they are. Give the "
            "offset: 0, or -1000.",
            stacklevel=3,
        )
    numbers = xr.concat(converted, xr.IndexVariable("band", list(arrays))).transpose("time", "band", "y", "x")
    data = masks["SCL"] != 0 if "SCL" in masks else (numbers != 0).any("band")
    clear = xr.apply_ufunc(
        lambda data, *values: clear_ground(data, dict(zip(masks, values, strict=True))),
        data,
        *masks.values(),
        dask="parallelized",
        output_dtypes=[bool],
    )
    scene = _centred(xr.Dataset({"bands": numbers, "valid": clear, "data": data}), cube, name)
    if crs is not None:
        scene = scene.rio.write_crs(crs)
    scene = _one_a_day(scene).drop_vars("data").transpose("time", "band", "y", "x")
    return scene.assign_attrs(name=name)


def has_bands(cube: xr.Dataset) -> bool:
    """Whether a dataset has a variable with the name of a band."""
    return any(band_of(str(name)) not in (None, *MASKS) for name in cube.data_vars)


def _crs(cube: Cube, name: str) -> CRS | None:
    try:
        if cube.rio.crs is not None:
            return cube.rio.crs
        return CRS.from_user_input(cube.coords["epsg"].item()) if "epsg" in cube.coords else None
    except Exception as error:  # rasterio's error of a damaged CRS is no ValueError
        raise SpinetError(f"The coordinate reference system of {name} cannot be understood: {error}") from error


def _ordered(cube: Cube, name: str, max_cloud: float | None) -> Cube:
    """The cube with dimensions by their names here, clear enough, north up, and in the order of time."""
    cube = cube.rename({old: new for old, new in _DIMS.items() if old in cube.dims and new not in cube.dims})
    if "time" not in cube.dims:
        cube = cube.expand_dims("time")
    if "time" in cube.coords and cube["time"].dtype.kind != "M":
        raise SpinetError(f"Expected dates as coordinate `time` of {name}. Received: {cube['time'].dtype}.")
    if max_cloud is not None:
        if "eo:cloud_cover" not in cube.coords:
            raise SpinetError(f"{name} does not say how cloudy each image is. Leave the limit of clouds away.")
        clear = np.broadcast_to(cube["eo:cloud_cover"].values <= 100 * max_cloud, cube.sizes["time"])
        if not clear.any():
            raise SpinetError(f"No image of {name} has at most {max_cloud:.0%} cloud. Allow more, or add dates.")
        cube = cube.isel(time=np.flatnonzero(clear))
    for axis in ("y", "x"):
        if axis not in cube.coords:
            continue
        centres = cube[axis].values
        require_even_spacing(centres, axis, name)
        if (centres[0] < centres[-1]) != (axis == "x") and len(centres) > 1:
            cube = cube.isel({axis: slice(None, None, -1)})
    return cube.sortby("time") if "time" in cube.coords else cube


def _arrays(cube: Cube, name: str) -> dict[str, xr.DataArray]:
    """The bands in Sentinel-2's order and the masks, by name, each (time, y, x)."""
    if isinstance(cube, xr.DataArray):
        if "band" not in cube.dims or "band" not in cube.coords:
            raise SpinetError(f"Expected a dimension `band` with the names of the bands in {name}. It has {cube.dims}.")
        arrays = {str(label): cube.isel(band=n) for n, label in enumerate(cube["band"].values)}
    else:
        arrays = {str(label): array for label, array in cube.data_vars.items()}
    found: dict[str, xr.DataArray] = {}
    for label, array in arrays.items():
        band = band_of(label)
        if band is None or band in found:
            continue
        if set(array.dims) != _GRID or array.dtype.kind not in "iufb":
            raise SpinetError(
                f"Expected {label} as numbers on (time, y, x) in {name}. Received: {array.dtype} on {array.dims}."
            )
        found[band] = array
    if not found:
        raise SpinetError(f"Expected bands of Sentinel-2 in {name}. It has: {', '.join(arrays) or 'none'}.")
    order = (*BANDS[:10], "B10", *BANDS[10:], *MASKS)
    return {band: found[band] for band in order if band in found}


def _bare(array: xr.DataArray) -> xr.DataArray:
    """Without attributes, and without coordinates other than those of the grid."""
    return array.drop_vars(set(array.coords) - _GRID).drop_attrs().transpose("time", "y", "x")


def _numbers(array: xr.DataArray, offset: float | None) -> tuple[xr.DataArray, bool]:
    """Digital numbers of a band, uint16, 0 where there is no data; and whether it is known what they are."""
    scalings = [_scaling(array, frame) for frame in range(array.sizes["time"])]
    known = offset is not None or None not in scalings
    if offset is not None:
        scalings = [(None, offset, 0.0)] * len(scalings)
    gains, shifts, done = zip(*(scaling or (None, 0.0, 0.0) for scaling in scalings), strict=True)
    nodata = array.attrs.get("nodata", array.attrs.get("_FillValue", array.encoding.get("_FillValue", 0)))
    array = _bare(array)
    if nodata != 0 and nodata == nodata:
        array = array.where(array != nodata, 0)
    numbers = xr.apply_ufunc(
        lambda values, *shifts: to_numbers(values, gains[0], *shifts),
        array,
        xr.DataArray(np.array(shifts), dims="time"),
        xr.DataArray(np.array(done), dims="time"),
        dask="parallelized",
        output_dtypes=["uint16"],
    )
    return numbers, known


def _scaling(array: xr.DataArray, frame: int) -> tuple[float | None, float, float] | None:
    """Gain and shift of a frame of a band, and what of the shift reflectance has already; None if nothing says it."""
    properties = {
        str(key): value.values[frame] if value.dims == ("time",) else value.values[()]
        for key, value in array.coords.items()
        if value.dims in ((), ("time",))
    }
    asset = {"raster:bands": properties.get("raster:bands")}
    found = scaling(properties, asset, str(properties.get("id", "")))
    # stackstac makes reflectance with the offset that the metadata announce, even one that was applied before.
    _, announced_offset = announced(asset)
    return found and (*found, (announced_offset or 0.0) * QUANTIFICATION)


def _centred(scene: xr.Dataset, cube: Cube, name: str) -> xr.Dataset:
    """With coordinates of the centres of pixels; stackstac's are those of their upper left corners."""
    transform = cube.attrs.get("transform")
    if transform is None or "x" not in scene.coords or "y" not in scene.coords:
        return scene
    width, west, height = transform[0], transform[2], transform[4]
    column = float(scene["x"][0] - west) / width
    if abs(column - round(column)) > _CORNER:
        return scene
    return scene.assign_coords(x=scene["x"] + width / 2, y=scene["y"] + height / 2)


def _one_a_day(scene: xr.Dataset) -> xr.Dataset:
    """One frame for each solar day."""
    if "time" not in scene.coords:
        return scene
    longitude = 0.0
    if scene.rio.crs is not None and "x" in scene.coords and "y" in scene.coords:
        longitude = longitude_at(scene.rio.crs, float(scene["x"].mean()), float(scene["y"].mean()))
    times = scene["time"].values.astype("datetime64[ns]")
    days = (times + np.timedelta64(round(longitude / 15 * 3600), "s")).astype("datetime64[D]")
    scene = scene.assign_coords(time=times)
    if len(np.unique(days)) == len(days):
        return scene
    frames = [_merged(scene.isel(time=np.flatnonzero(days == day))) for day in np.unique(days)]
    return xr.concat(frames, "time")


def _merged(day: xr.Dataset) -> xr.Dataset:
    """One frame of several."""
    images = [day.isel(time=[n]).assign_coords(time=day["time"][:1]) for n in range(day.sizes["time"])]
    numbers = images[0]["bands"]
    free = xr.ones_like(images[0]["valid"])
    for kind in ("valid", "data"):
        for image in images:
            take = free & image[kind]
            numbers = numbers.where(~take, image["bands"])
            free = free & ~take
    return images[0].assign(bands=numbers, valid=sum(image["valid"] for image in images) > 0)
