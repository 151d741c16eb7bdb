"""Grids of scenes, maps and rasters agree to the last digit."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from spinet_tf.errors import SpinetError
from spinet_tf.inference.grid import Grid

UTM = CRS.from_epsg(32633)
GRIDS = {
    "north up": Grid(21, 17, Affine(10, 0, 500000.5, 0, -10, 5100000.25), UTM),
    "south up": Grid(21, 17, Affine(10, 0, 500000.5, 0, 10, 5100000.25), UTM),
    "degrees": Grid(30, 40, Affine(1e-4, 0, 14.1, 0, -1e-4, 55.2), CRS.from_epsg(4326)),
}


def scene_on(grid, stored):
    x = grid.transform.c + (np.arange(grid.width) + 0.5) * grid.transform.a
    y = grid.transform.f + (np.arange(grid.height) + 0.5) * grid.transform.e
    scene = xr.Dataset({"bands": (("y", "x"), np.zeros((grid.height, grid.width)))}, coords={"y": y, "x": x})
    scene = scene.rio.write_crs(grid.crs)
    return scene.rio.write_transform(grid.transform) if stored else scene


def assert_close(grid, expected):
    assert (grid.height, grid.width, grid.crs) == (expected.height, expected.width, expected.crs)
    np.testing.assert_allclose(grid.transform, expected.transform, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_of_a_scene(name, stored):
    assert_close(Grid.of_scene(scene_on(GRIDS[name], stored)), GRIDS[name])


@pytest.mark.parametrize("name", GRIDS)
def test_a_finer_grid_and_back(name):
    grid = GRIDS[name]
    fine = Grid.of_scene(scene_on(grid, stored=True), scale=4)
    assert (fine.height, fine.width) == (4 * grid.height, 4 * grid.width)
    np.testing.assert_allclose(fine.transform @ (4 * 3, 4 * 5), grid.transform @ (3, 5), rtol=1e-12)
    assert_close(fine.coarser(4), grid)


def test_a_window_or_every_other_pixel_of_a_scene_lies_where_its_coordinates_say():
    grid = GRIDS["north up"]
    scene = scene_on(grid, stored=True)  # what is cut from it keeps the transform of the whole
    window = scene.isel(y=slice(5, 9), x=slice(2, 10))
    assert_close(Grid.of_scene(window), Grid(4, 8, grid.transform @ Affine.translation(2, 5), grid.crs))
    thinned = scene.isel(y=slice(None, None, 2), x=slice(None, None, 2))
    expected = Affine(20, 0, 500000.5 - 5, 0, -20, 5100000.25 + 5)  # around the pixels that are left
    assert_close(Grid.of_scene(thinned), Grid(11, 9, expected, grid.crs))


def test_one_pixel_has_a_size_only_where_the_transform_is_stored():
    grid = Grid(1, 1, GRIDS["north up"].transform, UTM)
    assert_close(Grid.of_scene(scene_on(grid, stored=True)), grid)
    with pytest.raises(SpinetError, match=r"more than one row and column: 1 x 1 pixels"):
        Grid.of_scene(scene_on(grid, stored=False))
    with pytest.raises(SpinetError, match="1 x 17 pixels"):
        Grid.of_scene(scene_on(GRIDS["north up"], stored=False).isel(y=[3]))


def test_a_scene_without_position():
    scene = xr.Dataset({"bands": (("y", "x"), np.zeros((3, 4)))})
    assert Grid.of_scene(scene, 2) == Grid(6, 8)
    assert Grid(6, 8).coarser(2) == Grid(3, 4)
    np.testing.assert_array_equal(Grid(6, 8).place(np.array([[1, 2]])), [[1, 2]])
    assert "x" not in Grid(3, 4).locate(scene).coords


def test_located_data_has_the_grid():
    grid = GRIDS["south up"]
    located = grid.locate(xr.Dataset({"map": (("y", "x"), np.zeros((21, 17)))}))
    assert located.rio.crs == UTM
    assert Grid.of_scene(located) == grid
    np.testing.assert_array_equal(located["x"][:2], [500005.5, 500015.5])
    np.testing.assert_array_equal(located["y"][:2], [5100005.25, 5100015.25])


def test_points_are_placed_as_rasterio_does():
    grid = Grid(9, 9, Affine(2, 0.5, 100, -0.25, -3, 50), UTM)
    points = np.array([[0, 0], [9, 4.5], [2, 7]])
    np.testing.assert_allclose(grid.place(points), [grid.transform @ tuple(point) for point in points], rtol=1e-15)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "grid", [GRIDS["degrees"], Grid(5, 6), Grid(5, 6, GRIDS["north up"].transform), Grid(5, 6, Affine.identity(), UTM)]
)
def test_the_grid_of_a_raster(grid, tmp_path):
    profile = {"driver": "GTiff", "height": grid.height, "width": grid.width, "count": 1, "dtype": "uint8"}
    place = {} if grid.transform is None else {"transform": grid.transform, "crs": grid.crs}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, **place):
        pass
    with rasterio.open(tmp_path / "a.tif") as file:
        assert Grid.of_raster(file) == grid
