"""Polygons are the fields of a map: at their place, of their area, sharing their borders."""

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from scipy import ndimage

from spinet_tf.errors import SpinetError
from spinet_tf.inference.geotiff import Block, open_map, write_cogs
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.outlines import trace
from spinet_tf.inference.polygons import write_polygons
from tests.inference.full_disk import largest_file

UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
FORMATS = (".gpkg", ".fgb", ".parquet")

# Probability, and row and column of the first and past the last pixel: two that touch at a corner, one alone, one
# small, and one with a small and a large hole.
PARCELS = [
    (0.75, (10, 10, 40, 30)),
    (1.0, (40, 30, 60, 90)),
    (0.625, (70, 5, 90, 20)),
    (0.875, (2, 2, 7, 12)),
    (0.75, (5, 100, 95, 140)),
]
HOLES = [(8, 103, 12, 107), (30, 110, 60, 130)]


def map_of(probability, folder, transform=TRANSFORM, crs=UTM, dtype="float32"):
    """The files of class and probability."""
    paths = {layer: folder / f"{layer}.tif" for layer in ("class", "probability")}
    grid = Grid(*probability.shape, transform, crs)
    write_cogs([Block(0, 0, {"probability": probability})], grid, paths, dtype=dtype, overwrite=True)
    return paths["class"], paths["probability"]


def parcels():
    probability = np.full((100, 150), 0.25, np.float32)
    for value, (top, left, bottom, right) in PARCELS:
        probability[top:bottom, left:right] = value
    for top, left, bottom, right in HOLES:
        probability[top:bottom, left:right] = 0.25
    probability[95:, :] = np.nan
    return probability


def blobs(seed, height=120, width=150, sigma=2.5, nodata=True):
    """A map with regions of all shapes and sizes."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma)
    probability = (0.5 + smooth / (6 * smooth.std())).clip(0, 1).astype(np.float32)
    if nodata:
        probability[ndimage.gaussian_filter(rng.normal(size=(height, width)), 4) > 0.08] = np.nan
    return probability


def read(path):
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_parcels_come_back(dtype, suffix, tmp_path):
    path = tmp_path / f"fields{suffix}"
    # 0.03 ha are 48 pixels of 2.5 m: the small parcel has 50, the small hole 16.
    assert write_polygons(*map_of(parcels(), tmp_path, dtype=dtype), path, min_area=0.03) == path
    table = read(path)
    assert table.crs == UTM
    assert set(table.columns) == {"class", "area_ha", "probability", "geometry"}
    assert (table["class"] == "cultivated").all()
    assert table.geometry.is_valid.all()
    assert (table.geom_type == "Polygon").all()
    table = table.set_index(table.geometry.centroid.map(lambda point: round(point.x, 3))).sort_index()

    expected = []
    for value, (top, left, bottom, right) in PARCELS:
        corners = (500000.5 + 2.5 * np.array([left, right]), 5100000.25 - 2.5 * np.array([bottom, top]))
        expected.append((value, shapely.box(corners[0][0], corners[1][0], corners[0][1], corners[1][1])))
    hole = shapely.box(500000.5 + 2.5 * 110, 5100000.25 - 2.5 * 60, 500000.5 + 2.5 * 130, 5100000.25 - 2.5 * 30)
    expected[4] = (expected[4][0], expected[4][1] - hole)
    expected.sort(key=lambda parcel: parcel[1].centroid.x)
    assert len(table) == len(expected)
    for (_, row), (value, parcel) in zip(table.iterrows(), expected, strict=True):
        # A hundredth of a pixel is 0.025 m.
        assert shapely.hausdorff_distance(row.geometry, parcel) < 0.025
        assert row.area_ha == pytest.approx(parcel.area / 10_000, rel=1e-6)
        assert row.probability == pytest.approx(value, abs=1e-6 if dtype == "float32" else 0.5 / 254)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["class.tif", "probability.tif", path.name])


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(2.5, 0, 500000.5, 0, 2.5, 5100000.25), UTM),
        (Affine(2e-5, 0, 14.123, 0, -2e-5, 55.321), CRS.from_epsg(4326)),
        (Affine(2e-5, 0, 14.123, 0, 2e-5, -12.5), CRS.from_epsg(4326)),
    ],
    ids=["south up", "degrees", "degrees, south up"],
)
def test_corners_lie_exactly_on_any_grid(transform, crs, tmp_path):
    table = read(write_polygons(*map_of(parcels(), tmp_path, transform, crs), tmp_path / "a.gpkg", min_area=1e-3))
    assert table.crs == crs
    found = shapely.transform(table.geometry.values, lambda points: np.stack(~transform @ tuple(points.T), axis=1))
    bounds = sorted(tuple(bounds) for bounds in shapely.bounds(found))
    expected = sorted((left, top, right, bottom) for _, (top, left, bottom, right) in PARCELS)
    np.testing.assert_allclose(bounds, expected, rtol=0, atol=0.01)


def test_parcels_of_known_coordinates_go_the_whole_way(tmp_path):
    known = [
        shapely.box(500010.5, 5099900.25, 500120.5, 5099980.25),
        shapely.box(500200.5, 5099800.25, 500260.5, 5099990.25),
    ]
    probability = rasterize(known, out_shape=(100, 150), transform=TRANSFORM, dtype="float32") * np.float32(0.9)
    found = read(write_polygons(*map_of(probability, tmp_path), tmp_path / "a.fgb")).sort_values("area_ha")
    for polygon, expected in zip(found.geometry, known, strict=True):
        assert shapely.normalize(polygon).equals_exact(shapely.normalize(expected), 0.025)


# === Regions ===


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """A map, its regions by SciPy on the whole of it, and a function that traces it."""
    folder = tmp_path_factory.mktemp("regions")
    probability = blobs(seed=3)
    files = map_of(probability, folder)

    def traced(values, smallest, side):
        with open_map(files[0]) as classes, open_map(files[1]) as numbers:
            return trace(classes, numbers, values, smallest, side)

    return probability, traced


@pytest.mark.parametrize("values", [(1,), (0,), (0, 1)])
@pytest.mark.parametrize("side", [1000, 64, 17])
def test_regions_are_those_of_the_whole_map_whatever_the_blocks(regions, values, side):
    probability, traced = regions
    classes = np.where(np.isnan(probability), 255, probability > 0.5)
    found = traced(values, 1, side)
    # Burnt again, every region covers the pixels of one label and no others.
    burnt = rasterize(zip(found.outline, range(1, len(found.value) + 1), strict=True), out_shape=classes.shape)
    assert burnt.dtype.itemsize > 1 or len(found.value) < 256
    count = 0
    for value in values:
        labels, regions_of_value = ndimage.label(classes == value)
        count += regions_of_value
        inside = labels > 0
        pairs = np.unique(np.stack([labels[inside], burnt[inside]]), axis=1)
        assert pairs.shape[1] == regions_of_value
        np.testing.assert_array_equal(found.value[pairs[1] - 1], value)
        np.testing.assert_array_equal(found.pixels[pairs[1] - 1], np.bincount(labels[inside])[1:])
        totals = np.bincount(labels[inside], weights=probability[inside])[1:]
        np.testing.assert_allclose(found.total[pairs[1] - 1], totals, rtol=1e-6)
    assert len(found.value) == count
    np.testing.assert_array_equal(burnt > 0, np.isin(classes, values))
    np.testing.assert_array_equal(shapely.area(found.outline), found.pixels)
    assert shapely.is_valid(found.outline).all()


def test_outlines_have_no_corner_where_only_a_block_ends(regions):
    _, traced = regions
    whole, parts = (shapely.normalize(traced((0, 1), 5, side).outline) for side in (1000, 17))
    assert sorted(shapely.to_wkt(parts)) == sorted(shapely.to_wkt(whole))


def test_small_regions_are_left_out_even_where_blocks_cut_larger_ones(regions):
    _, traced = regions
    everything = traced((1,), 1, 1000)
    for side in (1000, 17):
        assert sorted(traced((1,), 60, side).pixels) == sorted(everything.pixels[everything.pixels >= 60])


# === Simplification ===


@pytest.mark.parametrize("tolerance", [1, 1.5, 5])
def test_neighbours_share_their_simplified_borders(tolerance, tmp_path):
    probability = blobs(seed=5)
    files = map_of(probability, tmp_path)
    path = write_polygons(*files, tmp_path / "a.parquet", min_area=0, simplify=tolerance, classes=(0, 1))
    table = read(path)
    assert set(table["class"]) == {"cultivated", "not cultivated"}
    assert table.geometry.is_valid.all()
    assert shapely.coverage_is_valid(table.geometry.values)
    # Neither gap nor overlap: the parts add up to the whole.
    assert shapely.union_all(table.geometry.values).area == pytest.approx(table.geometry.area.sum(), rel=1e-9)
    exact = read(write_polygons(*files, tmp_path / "b.parquet", min_area=0, simplify=0, classes=(0, 1)))
    assert exact.geometry.area.sum() == pytest.approx(np.isfinite(probability).sum() * 6.25)
    assert len(table) == len(exact)
    assert shapely.get_num_coordinates(table.geometry.values).sum() < 0.6 * exact.count_coordinates().sum()


def test_simplified_fields_stay_apart_and_close_to_their_pixels(tmp_path):
    files = map_of(blobs(seed=6, sigma=1.5, nodata=False), tmp_path)
    exact = read(write_polygons(*files, tmp_path / "a.parquet", min_area=0.02, simplify=0))
    table = read(write_polygons(*files, tmp_path / "b.parquet", min_area=0.02))
    assert len(table) == len(exact) > 10
    assert table.geometry.is_valid.all()
    assert shapely.coverage_is_valid(table.geometry.values)
    np.testing.assert_allclose(shapely.hausdorff_distance(exact.geometry, table.geometry), 0, atol=3 * 2.5)
    np.testing.assert_allclose(table["area_ha"].sum(), exact["area_ha"].sum(), rtol=0.01)
    np.testing.assert_array_equal(table["probability"], exact["probability"])


# === Area ===


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (4326, Affine(2e-5, 0, 14.123, 0, -2e-5, 55.321)),
        (4258, Affine(2e-5, 0, 14.123, 0, -2e-5, 38.5)),
        (3857, Affine(4, 0, 1572163, 0, -4, 7434732)),
        (32633, Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)),
        (3035, Affine(2.5, 0, 4321000, 0, -2.5, 3210000)),
        (2263, Affine(8, 0, 980000, 0, -8, 200000)),  # feet
    ],
)
def test_areas_are_those_on_the_ground(crs, transform, tmp_path):
    files = map_of(parcels(), tmp_path, transform, CRS.from_epsg(crs))
    table = read(write_polygons(*files, tmp_path / "a.gpkg", min_area=0.01))
    assert len(table) == 5
    ground = [
        abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(polygon)[0]) for polygon in table.to_crs(4326).geometry
    ]
    # UTM and other national grids are off by less than 0.1 %.
    np.testing.assert_allclose(table["area_ha"], np.array(ground) / 10_000, rtol=1e-3)


def test_in_utm_areas_are_those_that_everyone_computes(tmp_path):
    table = read(write_polygons(*map_of(blobs(seed=1), tmp_path), tmp_path / "a.gpkg", min_area=0))
    np.testing.assert_allclose(table["area_ha"], table.geometry.area / 10_000, rtol=1e-9)


@pytest.mark.parametrize(
    ("crs", "transform"), [(UTM, TRANSFORM), (CRS.from_epsg(4326), Affine(2e-5, 0, 14.123, 0, -2e-5, 55.321))]
)
def test_polygons_and_holes_below_the_minimum_go(crs, transform, tmp_path):
    files = map_of(parcels(), tmp_path, transform, crs)
    everything = read(write_polygons(*files, tmp_path / "a.gpkg", min_area=0)).sort_values("area_ha")
    assert shapely.get_num_interior_rings(everything.geometry.values).tolist() == [0, 0, 0, 0, 2]
    areas = everything["area_ha"].to_numpy()
    # The smallest parcel stays at its very area, and goes above it; 16 pixels of the small hole are below.
    for min_area, count, holes in (
        (areas[0] * (1 - 1e-6), 5, 1),
        (areas[0] * (1 + 1e-6), 4, 1),
        (0.9 * areas[4], 1, 0),
    ):
        table = read(write_polygons(*files, tmp_path / "a.gpkg", min_area=min_area, overwrite=True))
        assert len(table) == count
        assert shapely.get_num_interior_rings(table.geometry.values).sum() == holes
        assert table["area_ha"].min() >= min_area
        means = table.sort_values("area_ha")["probability"].to_numpy()
        np.testing.assert_array_equal(means, everything["probability"].to_numpy()[-count:])


def test_a_parcel_of_exactly_the_minimum_stays(tmp_path):
    probability = np.zeros((30, 30), np.float32)
    probability[5:15, 5:21] = 1  # 160 pixels of 6.25 square metres
    assert len(read(write_polygons(*map_of(probability, tmp_path), tmp_path / "a.gpkg", min_area=0.1))) == 1


# === Without polygons, and what is refused ===


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", [0.2, np.nan])
def test_a_map_without_cultivated_land_gives_an_empty_file(value, suffix, tmp_path):
    files = map_of(np.full((20, 30), value, np.float32), tmp_path)
    table = read(write_polygons(*files, tmp_path / f"a{suffix}"))
    assert len(table) == 0
    assert table.crs == UTM
    if suffix != ".parquet":
        assert pyogrio.read_info(tmp_path / f"a{suffix}")["geometry_type"] == "Polygon"
    assert set(table.columns) == {"class", "area_ha", "probability", "geometry"}


def test_geometry_type_and_name_of_the_layer(tmp_path):
    write_polygons(*map_of(parcels(), tmp_path), tmp_path / "fields.gpkg")
    assert pyogrio.list_layers(tmp_path / "fields.gpkg").tolist() == [["fields", "Polygon"]]


@pytest.mark.filterwarnings("ignore:The map has no CRS:UserWarning")
def test_a_map_without_crs_is_refused(tmp_path):
    files = map_of(parcels(), tmp_path, None, None)
    with pytest.raises(SpinetError, match="Expected a map with a CRS"):
        write_polygons(*files, tmp_path / "a.gpkg")
    files = map_of(parcels(), tmp_path, TRANSFORM, CRS.from_wkt('LOCAL_CS["here",UNIT["metre",1]]'))
    with pytest.raises(SpinetError, match="Expected a CRS on Earth"):
        write_polygons(*files, tmp_path / "a.gpkg")
    assert not (tmp_path / "a.gpkg").exists()


def test_rasters_of_two_maps_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    classes, _ = map_of(parcels(), tmp_path)
    _, probability = map_of(parcels(), tmp_path / "other", TRANSFORM @ Affine.translation(1, 0))
    with pytest.raises(SpinetError, match="on one grid"):
        write_polygons(classes, probability, tmp_path / "a.gpkg")


@pytest.mark.parametrize("options", [{"min_area": -1}, {"simplify": -0.5}])
def test_negative_numbers_are_refused(options, tmp_path):
    with pytest.raises(SpinetError, match="0 or more"):
        write_polygons(*map_of(parcels(), tmp_path), tmp_path / "a.gpkg", **options)


def test_other_formats_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(SpinetError, match=r"GeoPackage .* Received: fields\.shp"):
        write_polygons("no class", "no map", "fields.shp")


@pytest.mark.parametrize("damage", ["missing", "no raster", "damaged"])
def test_rasters_that_cannot_be_read_are_named(damage, tmp_path):
    classes, probability = map_of(parcels(), tmp_path)
    if damage == "missing":
        classes.unlink()
    elif damage == "no raster":
        classes.write_text("text")
    else:
        with rasterio.open(classes) as file:
            start = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        content = bytearray(classes.read_bytes())
        content[start : start + 20] = bytes(20)
        classes.write_bytes(content)
    with pytest.raises(SpinetError, match=r"Cannot read .*class\.tif"):
        write_polygons(classes, probability, tmp_path / "a.gpkg")
    assert not (tmp_path / "a.gpkg").exists()


# A GeoPackage has not always the same number of pages.
@pytest.mark.parametrize(
    ("suffix", "part"),
    [(".gpkg", 0.1), (".gpkg", 0.6), (".fgb", 0.1), (".fgb", 0.999), (".parquet", 0.1), (".parquet", 0.999)],
)
def test_a_full_disk_leaves_what_was_there(suffix, part, tmp_path):
    files = map_of(blobs(seed=2, height=300, width=300), tmp_path)
    path = write_polygons(*files, tmp_path / f"a{suffix}", min_area=0, simplify=0)
    before = path.read_bytes()
    with largest_file(int(part * len(before))), pytest.raises(SpinetError, match="Cannot write"):
        write_polygons(*files, path, min_area=0, simplify=0, overwrite=True)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    files = map_of(parcels(), tmp_path)
    (tmp_path / "a.fgb").write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        write_polygons(*files, tmp_path / "a.fgb")
    assert (tmp_path / "a.fgb").read_text() == "mine"
    assert len(read(write_polygons(*files, tmp_path / "a.fgb", overwrite=True))) == 4
