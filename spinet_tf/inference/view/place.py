"""Where the pixels of a map lie, as a page needs it to tell coordinates without a library of projections."""

from typing import Any

import numpy as np
from affine import Affine
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.warp import transform

from spinet_tf.inference.grid import Grid

# Longitude and latitude are known at the corners of so many cells along each side, and interpolated between them: on
# a UTM map of 110 km to about a metre, less than a tenth of a shown pixel; on one of 10 km to a centimetre.
CELLS = 16


def describe_place(grid: Grid, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a page has to know about the pixels that it shows.

    Args:
        grid: of the map.
        shape: (height, width) of what is shown of it, all of it or an overview.

    Returns:
        A dictionary for JSON: `width` and `height`; `transform`, six numbers from (column, row) to coordinates of the
        CRS, and `digits`, how many decimals of those matter; `crs`, its name; `metres`, the width and the height of a
        pixel; `places`, the number of `cells` along a side and at their corners, row by row, the `values` of longitude
        and of latitude. The last three are None where the map does not say where on Earth it lies.

    Example:
        describe_place(Grid.of_scene(scene, 4), (400, 400))["metres"]  # [2.5, 2.5], nearly
    """
    height, width = shape
    pixels = (grid.transform or Affine.identity()) @ Affine.scale(grid.width / width, grid.height / height)
    description: dict[str, Any] = {
        "width": width,
        "height": height,
        "transform": pixels[:6],
        "digits": int(np.clip(np.ceil(1 - np.log10(abs(pixels.a))), 0, 9)),
        "crs": None if grid.crs is None else _name(grid.crs),
        "metres": None,
        "places": None,
    }
    if grid.crs is not None and (grid.crs.is_projected or grid.crs.is_geographic):
        sides = np.linspace(0, 1, CELLS + 1)
        columns, rows = np.meshgrid(width * sides, height * sides)
        try:
            corners = _longitude_latitude(grid.crs, pixels, columns, rows)
            middle = _longitude_latitude(
                grid.crs, pixels, width / 2 + np.array([0, 1, 0]), height / 2 + np.array([0, 0, 1])
            )
        # PROJ has no answer outside of a projection's domain, and its errors no public base class.
        except Exception:
            return description
        description["places"] = {"cells": CELLS, "values": corners.round(9).tolist()}
        description["metres"] = Geod(ellps="WGS84").inv(*middle[:, [0, 0]], *middle[:, [1, 2]])[2].round(6).tolist()
    return description


def _name(crs: CRS) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else "Coordinates"


def _longitude_latitude(crs: CRS, pixels: Affine, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(2, number of pixels), degrees, with no jump where longitudes change their sign."""
    # Rows run along an axis, so neither depends on the other.
    x, y = pixels.a * columns.ravel() + pixels.c, pixels.e * rows.ravel() + pixels.f
    longitude, latitude = transform(crs, "EPSG:4326", x, y)
    return np.array([longitude[0] + (np.subtract(longitude, longitude[0]) + 180) % 360 - 180, latitude])
