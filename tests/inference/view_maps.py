"""A scene whose dates are told by their colours, and a map of it with random values."""

import numpy as np

from spinet_tf.inference.geotiff import Block, write_cogs
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.view import write_view
from tests.inference.scenes import make_scene

DATES = ["2019-03-01", "2019-03-21", "2019-03-31"]  # of the scene, without the cloudy one
TINTS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])  # of those dates on the screen


def make_tinted_scene():
    """Three clear dates, each of one colour, and a cloudy one."""
    scene = make_scene(time=4)
    scene["bands"][:] = 100
    for frame, band in zip((0, 2, 3), ("B04", "B03", "B02"), strict=True):
        scene["bands"][frame, scene["band"].values.tolist().index(band)] = 3000
    scene["valid"][0, 0] = False
    return scene


def write_maps(path, grid, dtype="float32", names=("class", "uncertainty")):
    """Write a map with a hole, and beside it its classes (above 0.3) and its uncertainty."""
    rng = np.random.default_rng(3)
    probability, uncertainty = rng.random((2, grid.height, grid.width), np.float32)
    probability[2:9, 4:30] = np.nan
    uncertainty[np.isnan(probability)] = np.nan
    paths = {"probability": path, **{name: path.with_name(f"{path.stem}_{name}.tif") for name in names}}
    block = Block(0, 0, {"probability": probability, "uncertainty": uncertainty})
    write_cogs([block], grid, paths, threshold=0.3, dtype=dtype)


def write_page(scene, folder):
    """Write the maps of a scene, and their page."""
    write_maps(folder / "map.tif", Grid.of_scene(scene, 4))
    write_view(folder / "map.tif", folder / "page.html", scene)
    return folder
