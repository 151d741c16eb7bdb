"""NetCDF and Zarr scenes, finding scenes, and the questions asked of every scene."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr

import spinet_tf.data
from spinet_tf.data import clear_fraction, find_scenes, open_scene, require_valid_frames, select_bands
from spinet_tf.errors import SpinetError

NAMES = ("B08", "B02", "B04")


@pytest.fixture
def scene(rng):
    """Three bands in an order of their own, with everything a scene may have."""
    dataset = xr.Dataset(
        {
            "bands": (("time", "band", "y", "x"), rng.integers(0, 60000, (2, 3, 4, 5), "uint16")),
            "valid": (("time", "y", "x"), rng.random((2, 4, 5)) < 0.6),
            "label": (("y_label", "x_label"), rng.choice(np.array([0, 1, 255], "uint8"), (8, 10))),
            "weight": (("y_label", "x_label"), rng.random((8, 10), "float32")),
        },
        {
            "band": list(NAMES),
            "time": np.array(["2019-05-01T10:00", "2019-03-01T10:00"], "datetime64[ns]"),
            "y": 5100040 - 10 * np.arange(4.0) - 5,
            "x": 500000 + 10 * np.arange(5.0) + 5,
            "y_label": 5100040 - 5 * np.arange(8.0) - 2.5,
            "x_label": 500000 + 5 * np.arange(10.0) + 2.5,
        },
    )
    return dataset.rio.write_crs("EPSG:32633")


@pytest.fixture(params=[".nc", ".zarr"])
def write(request, tmp_path):
    """A function that writes a dataset as NetCDF or Zarr."""

    def write(dataset):
        path = tmp_path / f"scene{request.param}"
        if request.param == ".nc":
            dataset.to_netcdf(path, engine="h5netcdf")
        else:
            with warnings.catch_warnings():
                # zarr has no final form of text in format 3 and says so when it is written.
                warnings.simplefilter("ignore")
                dataset.to_zarr(path)
        return path

    return write


def test_reads_what_was_written(write, scene):
    opened = open_scene(write(scene))
    xr.testing.assert_equal(opened, scene)
    assert {name: variable.dtype.name for name, variable in opened.data_vars.items()} == {
        "bands": "uint16",
        "valid": "bool",
        "label": "uint8",
        "weight": "float32",
    }
    assert opened.bands.chunks is not None  # nothing is read yet
    assert opened.rio.crs.to_epsg() == 32633
    assert opened.rio.transform()[:6] == (10, 0, 500000, 0, -10, 5100040)
    assert opened.attrs["name"] == "scene"


def test_valid_as_numbers_and_fill_values(write, scene):
    scene["valid"] = scene.valid.astype("uint8")
    scene.label.encoding["_FillValue"] = np.uint8(255)
    scene.bands.encoding["_FillValue"] = np.uint16(0)
    scene["scl"] = scene.valid
    opened = open_scene(write(scene))
    assert opened.valid.dtype == bool
    np.testing.assert_array_equal(opened.valid, scene.valid == 1)
    assert opened.label.dtype == "uint8"
    np.testing.assert_array_equal(opened.label, scene.label)
    np.testing.assert_array_equal(opened.bands, scene.bands)
    assert "scl" not in opened


def test_least_scene(write, scene):
    least = scene[["bands", "valid"]].drop_vars(["time", "y", "x", "spatial_ref"]).drop_encoding()
    opened = open_scene(write(least))
    assert set(opened.variables) == {"bands", "valid", "band"}
    assert opened.rio.crs is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.drop_vars("bands"), "Expected a variable `bands` in .*It has: .*label"),
        (lambda s: s.drop_vars("valid"), "Expected a variable `valid`"),
        (lambda s: s.assign(bands=s.bands.astype("float32")), "Expected `bands` as .*uint16.*of float32"),
        (lambda s: s.assign(bands=s.bands.astype("int16")), "of int16"),
        (lambda s: s.assign(bands=s.bands.transpose("time", "y", "x", "band")), r"\(time, y, x, band\) of uint16"),
        (lambda s: s.assign(valid=s.valid.astype("float64")), "Expected `valid` as .*of float64"),
        (lambda s: s.assign(label=s.label.astype("int32")), "Expected `label` as .*of int32"),
        (lambda s: s.isel(x_label=slice(9)), "Label of the wrong size: expected 4 x 5 pixels.*Received: 8 x 9"),
        (lambda s: s.isel(y_label=slice(4)), "Label of the wrong size: .*Received: 4 x 10"),
        (lambda s: s.drop_vars("label"), "Expected `weight` on the grid of `label`"),
        (lambda s: s.drop_vars("band"), "Expected a coordinate `band`"),
        (lambda s: s.assign_coords(band=["B02", "B02", "B03"]), "each once"),
        (lambda s: s.assign_coords(time=[1.0, 2.0]), "Expected dates in the coordinate `time`.*float64"),
        (lambda s: s.assign(bands=s.bands.assign_attrs(scale_factor=0.5)), "a scale or an offset left to apply"),
        (lambda s: s.assign_coords(y=[1.0, 2, 4, 8]), "evenly spaced coordinates `y`"),
        (lambda s: s.assign_coords(x=s.x.where(s.x < 500030)), "finite and evenly spaced coordinates `x`"),
        (
            lambda s: s.assign_coords(
                spatial_ref=s.spatial_ref.assign_attrs(dict.fromkeys(("crs_wkt", "spatial_ref"), "PROJCS["))
            ),
            "cannot be understood",
        ),
    ],
)
def test_what_is_not_a_scene(write, scene, change, match):
    path = write(change(scene))
    with pytest.raises(SpinetError, match=match) as caught:
        open_scene(path)
    assert str(path) in str(caught.value)


def test_truncated_netcdf(scene, tmp_path):
    path = tmp_path / "scene.nc"
    scene.to_netcdf(path, engine="h5netcdf")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SpinetError, match=r"scene\.nc cannot be read: .*truncated"):
        open_scene(path)


def test_unsupported_paths(tmp_path):
    (tmp_path / "scene.txt").write_bytes(b"")
    (tmp_path / "scene.zarr").mkdir()
    (tmp_path / "eopatch" / "data").mkdir(parents=True)
    for name, match in (
        ("scene.txt", r"Expected an EOPatch folder, .* GeoTIFFs, .* or a cube of xarray\. Received: .*scene.txt"),
        ("absent.nc", "There is nothing at"),
        ("scene.zarr", "cannot be read"),
        ("eopatch", r"Expected the bands of an EOPatch"),
        (".", r"Expected an EOPatch folder, .* Received"),
    ):
        with pytest.raises(SpinetError, match=match):
            open_scene(tmp_path / name)


def test_find_scenes(tmp_path, scene, write_2021, write_1x):
    patch, zarr_patch = write_2021(), write_1x(".zarr")
    scene.to_netcdf(tmp_path / "b.nc")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    expected = [tmp_path / "b.nc", patch, zarr_patch]
    assert find_scenes(tmp_path) == sorted(expected)
    assert find_scenes(str(patch)) == [patch]
    assert find_scenes(tmp_path / "b.nc") == [tmp_path / "b.nc"]
    for path in ("empty", "notes.txt", "absent"):
        with pytest.raises(SpinetError, match=f"or a folder of them. There is none at .*{path}"):
            find_scenes(tmp_path / path)


def test_name_of_the_current_folder(write_2021, monkeypatch):
    monkeypatch.chdir(write_2021())
    assert open_scene(".").attrs["name"] == "eopatch-2021"


def test_select_bands(scene):
    selected = select_bands(scene, ("B02", "B08"))
    np.testing.assert_array_equal(selected.bands, scene.bands[:, [1, 0]])
    assert tuple(selected.band.values) == ("B02", "B08")
    xr.testing.assert_equal(selected.drop_dims("band"), scene.drop_dims("band"))


def test_select_missing_bands(scene):
    with pytest.raises(SpinetError, match=r"place lacks B11, B12; it has B08, B02, B04\.$"):
        select_bands(scene.assign_attrs(name="place"), ("B02", "B11", "B12"))


def test_clear_fraction(scene):
    scene["valid"][:] = False
    scene["valid"][1, 0, 0] = True
    fraction = clear_fraction(scene)
    np.testing.assert_array_equal(fraction, [0, 1 / 20])
    assert fraction.dtype == "float64"


def test_require_valid_frames(scene):
    scene["valid"][:] = False
    scene["valid"][1, 2, 3] = True
    require_valid_frames(scene)
    scene["valid"][1, 2, 3] = False
    with pytest.raises(SpinetError, match="The scene has no valid frame: each of its 2 frames"):
        require_valid_frames(scene)


def test_public_names():
    for name in spinet_tf.data.__all__:
        assert getattr(spinet_tf.data, name).__doc__, name
    assert set(spinet_tf.data.__all__) <= set(dir(spinet_tf.data))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        spinet_tf.data.absent  # noqa: B018


@pytest.mark.parametrize(
    ("name", "sizes", "bands", "epsg", "label"),
    [
        ("be_gfmap_2023_4band", (19, 52, 46), 4, 32631, None),
        ("be_lpis_2018_A", (118, 64, 64), 10, 32631, ("y", "x")),
        ("be_lpis_2019_C_20m", (146, 32, 32), 6, 32631, ("y_label", "x_label")),
        ("be_worldcereal_2020-2021_monthly_b", (12, 100, 100), 9, 32631, ("y", "x")),
        ("si_eolearn_l1c_5dates", (5, 101, 100), 13, 32633, ("y", "x")),
    ],
)
def test_real_scenes(scene_data, name, sizes, bands, epsg, label):
    path = scene_data / "scenes" / f"{name}.nc"
    scene = open_scene(path)
    assert scene.bands.shape == (sizes[0], bands, *sizes[1:])
    assert scene.rio.crs.to_epsg() == epsg
    assert (scene.label.dims if "label" in scene else None) == label
    assert scene.attrs["name"] == name
    with xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as raw:
        np.testing.assert_array_equal(scene.bands, raw.bands)
        np.testing.assert_array_equal(scene.valid, raw.valid == 1)
        np.testing.assert_array_equal(clear_fraction(scene), raw.valid.values.mean((1, 2)))
    require_valid_frames(scene)
    assert select_bands(scene, scene.band.values[::-1]).bands.shape == scene.bands.shape


def test_find_real_scenes(scene_data):
    assert len(find_scenes(scene_data / "scenes")) == 5
    assert find_scenes(Path(scene_data, "eopatches", "eolearn-1.5"))[0].name == "eopatch-A"
