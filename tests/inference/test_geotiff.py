"""Maps are Cloud-Optimised GeoTIFFs that GDAL reads as they were meant."""

import resource

import numpy as np
import pytest
import rasterio
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference import predict_scene, write_cog
from tests.inference.scenes import CRS, MeanEngine, make_scene


@pytest.fixture(scope="module")
def result():
    scene = make_scene(height=150, width=131, time=3)
    scene["bands"][:, :, :2, :3] = 0
    result = predict_scene(MeanEngine(), scene)
    # Else the fine pixels of a coarse one are equal, and so are their mean and the nearest of them.
    result["probability"] += np.random.default_rng(0).random(result["probability"].shape, np.float32)
    return result


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    return write_cog(result, tmp_path_factory.mktemp("maps") / "map.tif")


def test_values_grid_and_description_come_back(result, path):
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), result["probability"].values)  # NaN included
        assert file.crs == CRS
        assert file.transform == rasterio.Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
        assert (file.count, file.dtypes, file.shape) == (1, ("float32",), (600, 524))
        assert np.isnan(file.nodata)
        assert file.descriptions == ("probability of cultivated land",)


def test_layout_is_cloud_optimised(path):
    with rasterio.open(path) as file:
        structure = file.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG"
        assert structure["COMPRESSION"] == "DEFLATE"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2]


def test_overviews_average_what_holds_data(result, path):
    with rasterio.open(path, overview_level=0) as overview:
        half = overview.read(1)
    expected = result["probability"].values.reshape(300, 2, 262, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(half, expected, rtol=1e-6)
    assert np.isnan(half[:4, :6]).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_georeference_is_written_with_one_warning(tmp_path):
    result = predict_scene(MeanEngine(), make_scene(georeferenced=False))
    with pytest.warns(UserWarning, match="no CRS") as warned:
        write_cog(result["probability"], tmp_path / "map.tif")
    assert len(warned) == 1
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None
        assert file.transform.is_identity
        np.testing.assert_array_equal(file.read(1), result["probability"].values)


def test_an_existing_file_is_kept_unless_overwritten(result, tmp_path):
    path = tmp_path / "map.tif"
    path.write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        write_cog(result, path)
    assert path.read_text() == "mine"
    write_cog(result, path, overwrite=True)
    assert path.read_bytes()[:2] == b"II"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_when_the_disk_is_full(tmp_path):
    noise = np.random.default_rng(0).random((600, 600), np.float32)
    image = xr.DataArray(noise, dims=("y", "x"), coords={"y": np.arange(600.0), "x": np.arange(600.0)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SpinetError, match=r"Cannot write .*map\.tif"):
            write_cog(image.rio.write_crs(CRS), tmp_path / "map.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
