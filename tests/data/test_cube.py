"""Cubes as odc-stac, stackstac and openEO make them."""

import warnings

import dask.array
import numpy as np
import odc.stac
import pystac
import pytest
import xarray as xr
from affine import Affine

from spinet_tf.data import open_scene
from spinet_tf.errors import SpinetError
from tests.data.rasters import NORTH, WEST, lonlat, stac_item, write_json, write_raster

NAMES = ("scl", "nir", "red")
TIMES = np.array(["2022-04-02T10:00:31", "2022-04-02T10:00:46", "2022-04-12T10:00:31"], "datetime64[us]")


@pytest.fixture
def values(rng):
    """(time, band, y, x) in the order of NAMES."""
    values = rng.integers(1001, 9000, (3, 3, 6, 8), "uint16")
    values[:, 0] = rng.choice(np.array([0, 4, 5, 9], "uint16"), (3, 6, 8))
    values[:, 1:] *= values[:, :1] != 0
    return values


def expected(values, offset=0):
    """Numbers and valid of the scene: the first two frames are of one day."""
    classes, numbers = values[:, 0], np.where(values[:, [2, 1]] == 0, 0, values[:, [2, 1]].astype(int) + offset)
    clear = np.isin(classes, (4, 5))
    second = ~clear[0] & (clear[1] | ((classes[0] == 0) & (classes[1] != 0)))
    return np.stack([np.where(second, numbers[1], numbers[0]), numbers[2]]), np.stack([clear[0] | clear[1], clear[2]])


def check(scene, values, offset=0):
    numbers, valid = expected(values, offset)
    assert scene.band.values.tolist() == ["B04", "B08"]
    assert scene.bands.dims == ("time", "band", "y", "x")
    np.testing.assert_array_equal(scene.bands, numbers)
    np.testing.assert_array_equal(scene.valid, valid)
    assert (scene.bands.dtype, scene.valid.dtype) == ("uint16", "bool")
    assert [str(time)[:10] for time in scene.time.values] == ["2022-04-02", "2022-04-12"]
    assert (scene.rio.crs.to_epsg(), scene.rio.transform()[:6]) == (32633, (10, 0, WEST, 0, -10, NORTH))
    assert set(scene.coords) == {"band", "time", "y", "x", "spatial_ref"}
    assert set(scene.data_vars) == {"bands", "valid"}


def centres(values):
    return {
        "y": NORTH - 5 - 10 * np.arange(values.shape[-2]),
        "x": WEST + 5 + 10 * np.arange(values.shape[-1]),
    }


def as_dataset(values, **changes):
    """What odc.stac.load gives."""
    arrays = {
        name: (("time", "y", "x"), dask.array.from_array(values[:, n], (1, 4, 5))) for n, name in enumerate(NAMES)
    }
    return xr.Dataset(arrays | changes, {"time": TIMES, **centres(values)}).rio.write_crs(32633)


def as_array(values, dtype="float64"):
    """What stackstac.stack gives: coordinates of corners, properties of items as coordinates, no rioxarray."""
    floats = np.where(values == 0, np.nan, values.astype("float64")) if dtype == "float64" else values
    scaled = xr.DataArray(
        dask.array.from_array(floats, (1, 1, 4, 5)),
        dims=("time", "band", "y", "x"),
        coords={
            "time": TIMES,
            "band": list(NAMES),
            "y": centres(values)["y"] + 5,
            "x": centres(values)["x"] - 5,
            "id": ("time", ["a", "b", "c"]),
            "eo:cloud_cover": ("time", [10.0, 20.0, 60.0]),
            "s2:processing_baseline": "05.09",
            "earthsearch:boa_offset_applied": False,
            "raster:bands": (
                "band",
                np.array([None, [{"scale": 1e-4, "offset": -0.1}], [{"scale": 1e-4, "offset": -0.1}]], object),
            ),
            "epsg": 32633,
        },
        attrs={"crs": "epsg:32633", "transform": Affine(10, 0, WEST, 0, -10, NORTH), "resolution": 10},
        name="stackstac",
    )
    return scaled


class TestDatasets:
    def test_as_odc_stac_gives_them(self, values):
        scene = open_scene(as_dataset(values), offset=-1000)
        assert isinstance(scene.bands.data, dask.array.Array)
        assert isinstance(scene.valid.data, dask.array.Array)
        check(scene, values, -1000)

    def test_numpy_works_too(self, values):
        check(open_scene(as_dataset(values).load(), offset=0), values)

    def test_a_warning_where_nothing_is_said_of_the_offset(self, values):
        with pytest.warns(UserWarning, match="^cube: nothing says whether an offset"):
            check(open_scene(as_dataset(values)), values)

    def test_other_names_and_ways(self, values):
        """As openEO names dimensions; south up; times out of order; a scale of its own."""
        cube = (
            as_dataset(values)
            .rename(time="t", red="B04", nir="B08", scl="SCL")
            .isel(y=slice(None, None, -1), t=[2, 1, 0])
        )
        check(open_scene(cube, offset=0), values)
        degrees = as_dataset(values).rename(y="latitude", x="longitude").transpose("latitude", "longitude", "time")
        check(open_scene(degrees, offset=0), values)

    def test_fill_values(self, values):
        cube = as_dataset(values)
        for name in ("red", "nir"):
            cube[name] = cube[name].where(cube[name] != 0, 65535).assign_attrs(nodata=65535)
        check(open_scene(cube, offset=-1000), values, -1000)

    def test_classes_as_floats(self, values):
        cube = as_dataset(values)
        cube["scl"] = cube["scl"].where(cube["scl"] != 0).astype("float32")
        check(open_scene(cube, offset=0), values)

    def test_without_a_mask_all_data_are_valid(self, values):
        scene = open_scene(as_dataset(values).drop_vars("scl").isel(time=[2]), offset=0)
        np.testing.assert_array_equal(scene.valid, (values[2:, 1:] != 0).any(axis=1))

    def test_area_dates_and_files(self, values, tmp_path):
        cube = as_dataset(values)
        with pytest.warns(UserWarning, match="nothing says"):
            scene = open_scene(cube, area=lonlat(WEST + 11, NORTH - 21, 2.8, 3.8), dates="2022-04-12")
        assert scene.sizes == {"time": 1, "band": 2, "y": 3, "x": 4}
        np.testing.assert_array_equal(scene.bands[0], expected(values)[0][1][:, 2:5, 1:5])
        cube.red.attrs["_FillValue"] = cube.nir.attrs["_FillValue"] = np.uint16(0)
        cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
        scene = open_scene(tmp_path / "cube.nc", offset=-1000)
        check(scene, values, -1000)
        assert scene.attrs["name"] == "cube"


class TestArrays:
    def test_digital_numbers(self, values):
        scene = open_scene(as_array(values, "uint16"))
        assert isinstance(scene.bands.data, dask.array.Array)
        check(scene, values, -1000)
        check(open_scene(as_array(values, "uint16"), offset=-7), values, -7)

    def test_reflectance(self, values):
        cube = as_array(values)
        cube = xr.where(cube.band == "scl", cube, cube * 1e-4 - 0.1, keep_attrs=False).assign_attrs(cube.attrs)
        check(open_scene(cube), values, -1000)

    def test_reflectance_whose_offset_was_taken_twice(self, values):
        """stackstac believes the assets; the flag says that the numbers had it already."""
        cube = as_array(values)
        cube = xr.where(cube.band == "scl", cube, cube * 1e-4 - 0.1, keep_attrs=False).assign_attrs(cube.attrs)
        cube["earthsearch:boa_offset_applied"] = True
        check(open_scene(cube), values, 0)

    def test_digital_numbers_in_floats(self, values):
        check(open_scene(as_array(values)), values, -1000)

    def test_offsets_by_time(self, values):
        cube = (
            as_array(values, "uint16")
            .drop_vars("raster:bands")
            .assign_coords({"s2:processing_baseline": ("time", ["05.09", "05.09", "02.14"])})
        )
        numbers, _ = expected(values, -1000)
        numbers[1] = expected(values)[0][1]
        np.testing.assert_array_equal(open_scene(cube).bands, numbers)

    def test_clouds(self, values):
        scene = open_scene(as_array(values, "uint16"), max_cloud=0.5)
        assert scene.sizes["time"] == 1
        with pytest.raises(SpinetError, match="No image of stackstac has at most 1% cloud"):
            open_scene(as_array(values, "uint16"), max_cloud=0.01)
        with pytest.raises(SpinetError, match="cube does not say how cloudy"):
            open_scene(as_dataset(values), max_cloud=0.5)

    def test_coordinates_of_centres(self, values):
        cube = as_array(values, "uint16")
        check(open_scene(cube.assign_coords(**centres(values))), values, -1000)


def test_equal_to_opening_the_items(tmp_path, rng):
    """odc-stac is an independent reader of the same files."""
    items = []
    for n, day in enumerate(("2022-04-02", "2022-04-12")):
        hrefs = {}
        for key, resolution, kind in (("red", 10, "uint16"), ("rededge1", 20, "uint16"), ("scl", 20, "uint8")):
            side = 480 // resolution
            image = rng.integers(1, 12 if kind == "uint8" else 9000, (side, side), kind)
            hrefs[key] = write_raster(tmp_path / f"{n}_{key}.tif", image, float(resolution), nodata=0)
        item = stac_item(str(n), f"{day}T10:00:31Z", hrefs, size=48, projection=False)
        items.append(item)
    path = write_json(tmp_path / "items.json", {"type": "FeatureCollection", "features": items})
    grid = {"crs": "EPSG:32633", "resolution": 10, "x": (WEST, WEST + 480), "y": (NORTH - 480, NORTH)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odc-stac, about shapely
        cube = odc.stac.load(
            pystac.ItemCollection.from_file(str(path)), bands=["red", "rededge1", "scl"], **grid, chunks={}
        )
        loaded = open_scene(cube, offset=0).load()
    xr.testing.assert_equal(open_scene(path, offset=0).load(), loaded)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.drop_vars(["red", "nir"]), "There are only masks"),
            (lambda c: c[["scl"]].rename(scl="visual"), "Expected bands of Sentinel-2 in cube. It has: visual"),
            (lambda c: c.assign(red=c.red.isel(x=0, drop=True)), r"Expected red as numbers on \(time, y, x\)"),
            (lambda c: c.assign(red=c.red.astype(str)), "Expected red as numbers"),
            (lambda c: c.assign_coords(time=[1, 2, 3]), "Expected dates as coordinate `time`"),
            (
                lambda c: c.assign_coords(x=np.exp(np.arange(8))),
                "Expected finite and evenly spaced coordinates `x` in cube",
            ),
            (lambda c: c.red, "Expected a dimension `band`"),
            (
                lambda c: c.drop_vars("spatial_ref").drop_encoding().assign_attrs(crs="EPSG:x"),
                "reference system of cube cannot be understood",
            ),
        ],
    )
    def test_what_is_no_cube(self, values, change, message):
        with pytest.raises(SpinetError, match=message):
            open_scene(change(as_dataset(values).load()), offset=0)

    def test_without_crs(self, values):
        cube = as_dataset(values).drop_vars("spatial_ref").drop_encoding()
        assert open_scene(cube, offset=0).rio.crs is None
        with pytest.raises(SpinetError, match="cube has no coordinate reference system"):
            open_scene(cube, offset=0, area=lonlat(WEST, NORTH, 2, 2))
