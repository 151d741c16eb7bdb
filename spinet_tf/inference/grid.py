"""Where the pixels of a map lie."""

from dataclasses import dataclass

import numpy as np
import rioxarray  # noqa: F401  (the accessor .rio)
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.io import DatasetReader

from spinet_tf.errors import SpinetError


@dataclass(frozen=True)
class Grid:
    """The pixels of a scene or a map.

    Attributes:
        height: rows.
        width: columns.
        transform: from (column, row), pixel corners, to coordinates of the CRS; None where the scene has none.
        crs: the coordinate reference system; None where the scene has none.

    Example:
        Grid.of_scene(scene, scale=4)
    """

    height: int
    width: int
    transform: Affine | None = None
    crs: CRS | None = None

    @classmethod
    def of_scene(cls, scene: xr.Dataset | xr.DataArray, scale: int = 1) -> "Grid":
        """The grid of a scene as `open_scene` gives it or of a map, each pixel divided into `scale` x `scale`.

        Raises:
            SpinetError: if it is one pixel high or wide, has coordinates, and does not store its transform.
        """
        georeferenced = "y" in scene.coords and "x" in scene.coords
        transform = _transform(scene) @ Affine.scale(1 / scale) if georeferenced else None
        return cls(scale * scene.sizes["y"], scale * scene.sizes["x"], transform, scene.rio.crs)

    @classmethod
    def of_raster(cls, file: DatasetReader) -> "Grid":
        """The grid of an open raster."""
        # GDAL gives this transform to files that have none.
        georeferenced = file.crs is not None or not file.transform.is_identity
        return cls(file.height, file.width, file.transform if georeferenced else None, file.crs)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Coordinates (n, 2) of points (n, 2) given as column and row, whole numbers being the corners of pixels."""
        x, y = (self.transform or Affine.identity()) @ tuple(points.T)
        return np.stack([x, y], axis=1)

    def coarser(self, scale: int) -> "Grid":
        """The grid whose pixels are `scale` x `scale` of these."""
        transform = None if self.transform is None else self.transform @ Affine.scale(scale)
        return Grid(self.height // scale, self.width // scale, transform, self.crs)

    def locate(self, dataset: xr.Dataset) -> xr.Dataset:
        """Give a dataset with dimensions y and x on this grid its CRS and its exact coordinates."""
        if self.crs is not None:
            dataset = dataset.rio.write_crs(self.crs)
        if self.transform is not None:
            dataset = dataset.assign_coords(
                y=self.transform.f + (np.arange(self.height) + 0.5) * self.transform.e,
                x=self.transform.c + (np.arange(self.width) + 0.5) * self.transform.a,
            ).rio.write_transform(self.transform)
        return dataset


def _transform(scene: xr.Dataset | xr.DataArray) -> Affine:
    """The transform that a scene stores or, where pixels were left out since, the one that its coordinates tell."""
    corners = np.array([[scene["x"][place].item(), scene["y"][place].item()] for place in (0, -1)])
    stored = scene.rio.transform()
    places = [~stored @ tuple(corner) for corner in corners]
    if np.allclose(places, [(0.5, 0.5), (scene.sizes["x"] - 0.5, scene.sizes["y"] - 0.5)], rtol=0, atol=1e-3):
        return stored
    if min(scene.sizes["x"], scene.sizes["y"]) > 1:
        return scene.rio.transform(recalc=True)
    raise SpinetError(
        f"Expected more than one row and column: {scene.sizes['y']} x {scene.sizes['x']} pixels do not tell how large "
        "a pixel is. Take a larger area."
    )
