"""Polygons of a map for GIS: fields with their area and mean probability."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pyproj
import shapely
from pyproj.exceptions import ProjError
from rasterio.io import DatasetReader

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.geotiff import CLASSES, open_map, reported
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.outlines import trace

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}
HECTARE = 10_000
# Lambert's cylindrical projection of the ellipsoid keeps every area.
EQUAL_AREA = pyproj.CRS("EPSG:6933")
# By how much the areas of a projection may be wrong to be taken as they are: UTM and national grids are.
TOLERANCE = 0.01


def write_polygons(
    class_path: str | os.PathLike,
    probability_path: str | os.PathLike,
    path: str | os.PathLike,
    *,
    min_area: float = 0.1,
    simplify: float = 1.5,
    classes: Sequence[int] = (1,),
    overwrite: bool = False,
) -> Path:
    """Write the polygons of a map: connected pixels of one class, with area and mean probability.

    Pixels are connected along their sides; fields that touch at a corner stay two. Borders that polygons share are
    simplified once for both, so neither gaps nor overlaps appear (Visvalingam and Whyatt's method, as GEOS' coverages
    have it). Memory grows with the outlines, about 200 bytes for each corner of their pixels, not with the raster.

    Args:
        class_path: the raster of classes, as `write_cogs` writes it.
        probability_path: the raster of probability on the same grid.
        path: the file to write: GeoPackage (.gpkg), FlatGeobuf (.fgb) or GeoParquet (.parquet, .geoparquet).
        min_area: polygons that are smaller than this before they are simplified are left out, and smaller holes
            filled, in hectares.
        simplify: what is smoothed away, in pixels; 0 keeps the outlines of pixels. A corner goes where the triangle
            with its neighbours is smaller than the square of this.
        classes: which classes become polygons; (0, 1) covers all of the map that holds data, but for small pieces.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path written. Columns: `class`, its name; `area_ha`, in hectares, on the projection of the map if that
        keeps areas to 1 %, as UTM does, else on an equal-area one; `probability`, the mean over the class's pixels.

    Raises:
        SpinetError: if the map has no CRS, the rasters do not belong together, the format is another one, or the file
            exists or cannot be written.

    Example:
        write_polygons("class.tif", "map.tif", "fields.gpkg", min_area=0.5)

    Reference: https://doi.org/10.1179/000870493786962263 (Visvalingam and Whyatt, 1993)
    """
    write = polygon_writer(path)
    if min_area < 0 or simplify < 0:
        raise SpinetError(f"Expected numbers of 0 or more. Received: min_area {min_area}, simplify {simplify}")
    with replacing(path, overwrite) as temporary:
        with open_map(class_path) as raster, open_map(probability_path) as probability:
            grid = _common_grid(raster, probability)
            area = _area_of_pixels(grid)
            # Well below the exact limit, which needs the place of each.
            regions = trace(raster, probability, classes, 0.9 * min_area / area(_corners(grid)).max())
        outlines = _fill_holes(regions.outline, min_area, area)
        large = shapely.area(outlines) * area(outlines) >= min_area
        names = [CLASSES[value] for value in regions.value[large]]
        means = (regions.total / regions.pixels)[large]
        outlines = outlines[large]
        # Of a whole tile there are tens of millions of corners: not twice in memory.
        del regions
        if simplify:
            outlines = _simplify(outlines, simplify, adjacent=len(classes) > 1)
        columns = {"class": names, "area_ha": shapely.area(outlines) * area(outlines), "probability": means}
        table = geopandas.GeoDataFrame(columns, geometry=shapely.transform(outlines, grid.place), crs=grid.crs)
        with reported(path):
            write(table, temporary)
    return Path(path)


def polygon_writer(path: str | os.PathLike) -> Callable[[geopandas.GeoDataFrame, Path], None]:
    """What writes a table in the format that a path's suffix says; a SpinetError if it is none of polygons."""
    suffix = Path(path).suffix.lower()
    if suffix in DRIVERS:
        return partial(_write_features, driver=DRIVERS[suffix])
    if suffix in (".parquet", ".geoparquet"):
        return lambda table, target: table.to_parquet(target, index=False, write_covering_bbox=True)
    raise SpinetError(
        "Expected a GeoPackage (.gpkg), FlatGeobuf (.fgb) or GeoParquet (.parquet, .geoparquet) for polygons. "
        f"Received: {path}"
    )


def _write_features(table: geopandas.GeoDataFrame, target: Path, driver: str) -> None:
    # Said explicitly, for the case that there are no polygons.
    table.to_file(target, driver=driver, engine="pyogrio", geometry_type="Polygon")
    # On a full disk the end of a file can be lost unreported: every polygon is read again.
    pyogrio.read_bounds(target)


def _common_grid(raster: DatasetReader, probability: DatasetReader) -> Grid:
    grids = [Grid.of_raster(file) for file in (raster, probability)]
    if grids[0] != grids[1]:
        raise SpinetError(
            f"Expected class and probability on one grid. Received: {raster.name} with {raster.shape} pixels from "
            f"{raster.bounds[:2]}, {probability.name} with {probability.shape} from {probability.bounds[:2]}."
        )
    return grids[0]


def _area_of_pixels(grid: Grid) -> Callable[[np.ndarray], np.ndarray]:
    """A function from polygons in pixels to the hectares that a pixel has at each one's centre."""
    if grid.crs is None or grid.transform is None:
        raise SpinetError(
            "Expected a map with a CRS: polygons have an area only on the ground. This one has none, because the scene "
            "has none."
        )
    try:
        crs = pyproj.CRS(grid.crs.to_wkt())
        if crs.is_projected and _keeps_areas(crs, grid):
            unit = crs.axis_info[0].unit_conversion_factor
            constant = abs(grid.transform.determinant) * unit**2 / HECTARE
            return lambda polygons: np.full(len(polygons), constant)
        transformer = pyproj.Transformer.from_crs(crs, EQUAL_AREA, always_xy=True)
    except ProjError as error:
        raise SpinetError(f"Expected a CRS on Earth. Received: {grid.crs}. PROJ says: {error}") from error

    def area(polygons: np.ndarray) -> np.ndarray:
        x, y = shapely.get_coordinates(shapely.centroid(polygons)).T
        squares = shapely.transform(shapely.box(x - 0.5, y - 0.5, x + 0.5, y + 0.5), grid.place)
        return shapely.area(shapely.transform(squares, transformer.transform, interleaved=False)) / HECTARE

    return area


def _keeps_areas(crs: pyproj.CRS, grid: Grid) -> bool:
    centre = grid.place(np.array([[grid.width / 2, grid.height / 2]]))[0]
    longitude, latitude = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(*centre)
    return abs(pyproj.Proj(crs).get_factors(longitude, latitude).areal_scale - 1) < TOLERANCE


def _corners(grid: Grid) -> np.ndarray:
    x, y = np.array([0, 0, grid.width, grid.width]), np.array([0, grid.height, 0, grid.height])
    return shapely.box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)


def _simplify(polygons: np.ndarray, tolerance: float, adjacent: bool) -> np.ndarray:
    if adjacent:
        # A point where three regions meet may be no corner of one of them; a coverage needs it in all. In one class
        # regions meet only at points that are corners of both.
        polygons = shapely.transform(shapely.segmentize(polygons, 1), np.rint)
    return shapely.coverage_simplify(polygons, tolerance)


def _fill_holes(polygons: np.ndarray, min_area: float, area: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    holed = np.flatnonzero(shapely.get_num_interior_rings(polygons))
    rings, owner = shapely.get_rings(polygons[holed], return_index=True)
    filled = shapely.polygons(rings)
    exterior = np.diff(owner, prepend=-1) > 0
    kept = exterior | (shapely.area(filled) * area(filled) >= min_area)
    polygons = polygons.copy()
    polygons[holed] = shapely.polygons(rings[kept], indices=owner[kept])
    return polygons
