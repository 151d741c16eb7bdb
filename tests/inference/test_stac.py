"""A map's STAC item is valid, and says what the files themselves say."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pystac.validation import JsonSchemaSTACValidator
from rasterio.crs import CRS
from rasterio.warp import transform_bounds, transform_geom

from spinet_tf._version import __version__
from spinet_tf.errors import SpinetError
from spinet_tf.inference.geotiff import Block, write_cogs
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.stac import write_item
from tests.inference.full_disk import largest_file

UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
DATES = np.array(["2019-08-02T10:30:00.123456789", "2019-03-01", "2019-05-17"], "datetime64[ns]")


def write_layers(folder, transform=TRANSFORM, crs=UTM, dtype="float32", shape=(80, 120)):
    paths = {name: folder / f"map_{name}.tif" for name in ("probability", "class", "uncertainty", "frames")}
    height, width = shape
    layers = {name: np.full(shape, 0.3, np.float32) for name in ("probability", "uncertainty")}
    layers["frames"] = np.ones((height // 4, width // 4), np.uint16)
    write_cogs([Block(0, 0, layers)], Grid(*shape, transform, crs), paths, scale=4, dtype=dtype)
    for name, file in (("polygons", "fields.gpkg"), ("quicklook", "map.png")):
        paths[name] = folder / file
        paths[name].write_bytes(b"")
    return paths


def valid(path):
    """The item, once the core schema of STAC, which pystac carries, has no objection; nothing is asked for online."""
    content = json.loads(path.read_text())
    JsonSchemaSTACValidator().validate_core(content, pystac.STACObjectType.ITEM, "1.1.0")
    return pystac.Item.from_file(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    paths = write_layers(folder)
    (folder / "model").mkdir()
    (folder / "model" / "stac-item.json").write_text("{}")
    model = folder / "model" / "stac-item.json"
    sources = {"model": model, "scene": "https://example.com/scene.json", "preset": "tiny"}
    path = write_item(paths, folder / "map.json", dates=DATES, derived_from=sources)
    return paths, path, valid(path)


def test_footprint_is_the_ground_of_the_map(made):
    paths, _, item = made
    with rasterio.open(paths["probability"]) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    np.testing.assert_allclose(item.bbox, bounds, rtol=0, atol=2e-6)
    footprint = shapely.geometry.shape(item.geometry)
    assert footprint.is_valid
    assert footprint.exterior.is_ccw
    np.testing.assert_allclose(footprint.bounds, item.bbox, rtol=0, atol=1e-9)


def test_edges_of_a_large_footprint_are_curved(tmp_path):
    transform = Affine(1000, 0, 400_000, 0, -1000, 5_100_000)
    item = valid(write_item(write_layers(tmp_path, transform), tmp_path / "map.json"))
    footprint = shapely.geometry.shape(transform_geom("EPSG:4326", UTM, item.geometry))
    # A straight line from corner to corner would be 300 m off.
    distance = shapely.hausdorff_distance(footprint, shapely.box(400_000, 5_020_000, 520_000, 5_100_000), densify=0.05)
    assert distance < 10


def test_dates_span_the_images(made):
    _, _, item = made
    assert item.datetime is None
    assert item.common_metadata.start_datetime == datetime(2019, 3, 1, tzinfo=UTC)
    assert item.common_metadata.end_datetime == datetime(2019, 8, 2, 10, 30, tzinfo=UTC)


def test_projection_is_that_of_the_files(made):
    _, _, item = made
    assert item.properties["proj:code"] == "EPSG:32633"
    assert item.properties["proj:shape"] == [80, 120]
    assert item.properties["proj:transform"] == list(TRANSFORM)[:6]
    frames = item.assets["frames"].extra_fields
    assert (frames["proj:shape"], frames["proj:transform"][0]) == ([20, 30], 10)
    assert not any(key.startswith("proj:") for key in item.assets["class"].extra_fields)


def test_assets_are_the_files(made):
    paths, _, item = made
    assert set(item.assets) == set(paths)
    cog = "image/tiff; application=geotiff; profile=cloud-optimized"
    expected = dict.fromkeys(("probability", "class", "uncertainty", "frames"), (cog, ["data"]))
    expected["polygons"] = ("application/geopackage+sqlite3", ["data"])
    expected["quicklook"] = ("image/png", ["overview"])
    for name, asset in item.assets.items():
        assert asset.href == f"./{paths[name].name}"
        assert asset.get_absolute_href() == str(paths[name])
        assert (asset.media_type, asset.roles) == expected[name]


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        ("float32", {"data_type": "float32", "nodata": "nan"}),
        ("uint8", {"data_type": "uint8", "nodata": 255, "raster:scale": 1 / 254, "raster:offset": 0}),
    ],
)
def test_bands_tell_how_numbers_are_stored(dtype, numbers, tmp_path):
    item = valid(write_item(write_layers(tmp_path, dtype=dtype), tmp_path / "map.json", dates=DATES[:1]))
    bands = {name: asset.extra_fields.get("bands") for name, asset in item.assets.items()}
    description = {"name": "probability", "description": "probability of cultivated land"}
    assert bands["probability"] == [{**description, **numbers}]
    assert bands["class"][0]["data_type"] == "uint8"
    assert bands["class"][0]["nodata"] == 255
    assert bands["frames"] == [{"name": "frames", "description": "frames with clear ground", "data_type": "uint16"}]
    classes = item.assets["class"].extra_fields["classification:classes"]
    assert [(entry["value"], entry["name"]) for entry in classes] == [(0, "not_cultivated"), (1, "cultivated")]
    with rasterio.open(tmp_path / "map_class.tif") as file:
        for entry in classes:
            assert entry["color_hint"] == "{:02X}{:02X}{:02X}".format(*file.colormap(1)[entry["value"]])
    assert item.datetime == datetime(2019, 8, 2, 10, 30, tzinfo=UTC)


def test_links_tell_what_the_map_was_made_from(made):
    _, _, item = made
    links = [(link.rel, link.title, link.media_type, link.target) for link in item.links if link.rel != "self"]
    assert links == [
        ("derived_from", "model", "application/geo+json", "./model/stac-item.json"),
        ("derived_from", "scene", "application/geo+json", "https://example.com/scene.json"),
    ]
    assert "preset tiny" in item.properties["description"]
    assert item.properties["processing:software"] == {"spinet_tf": __version__}
    declared = {url.split("/")[3] for url in item.stac_extensions}
    assert declared == {"projection", "raster", "classification", "processing"}


def test_a_moved_folder_stays_whole(made, tmp_path):
    _, path, _ = made
    shutil.copytree(path.parent, tmp_path / "moved")
    item = pystac.Item.from_file(tmp_path / "moved" / "map.json")
    with rasterio.open(item.assets["probability"].get_absolute_href()) as file:
        assert file.shape == (80, 120)


def test_the_item_may_lie_elsewhere(tmp_path):
    (tmp_path / "maps").mkdir()
    path = write_item(write_layers(tmp_path / "maps"), tmp_path / "catalogue" / "map.json", dates=DATES)
    assert valid(path).assets["class"].href == "../maps/map_class.tif"


def test_across_the_antimeridian_the_box_begins_in_the_east(tmp_path):
    # Fiji, where UTM zone 60 ends at 180 degrees.
    paths = write_layers(tmp_path, Affine(100, 0, 813_000, 0, -100, 8_040_000), CRS.from_epsg(32760), shape=(80, 200))
    item = valid(write_item(paths, tmp_path / "map.json", dates=DATES))
    west, south, east, north = item.bbox
    assert 179.9 < west < 180
    assert -180 < east < -179.8
    assert -17.9 < south < north < -17.6
    assert item.geometry["type"] == "MultiPolygon"


@pytest.mark.filterwarnings("ignore:The map has no CRS:UserWarning")
def test_a_map_without_position_has_an_item_without(tmp_path):
    item = valid(write_item(write_layers(tmp_path, None, None), tmp_path / "map.json", dates=DATES))
    assert item.geometry is None
    assert item.bbox is None
    assert "proj:code" not in item.properties


def test_a_crs_without_a_number_is_told_in_full(tmp_path):
    crs = CRS.from_proj4("+proj=laea +lat_0=52.3 +lon_0=10.1 +units=m")
    item = valid(write_item(write_layers(tmp_path, crs=crs), tmp_path / "map.json", dates=DATES))
    assert item.properties["proj:code"] is None
    assert CRS.from_wkt(item.properties["proj:wkt2"]) == crs


def test_without_dates_the_item_is_of_now(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    item = valid(write_item(write_layers(tmp_path), tmp_path / "map.json"))
    assert before <= item.datetime <= datetime.now(UTC)


# === What is refused ===


def test_a_file_that_is_not_there_is_named(tmp_path):
    paths = write_layers(tmp_path)
    paths["polygons"].unlink()
    with pytest.raises(SpinetError, match=r"the map's polygons\. There is no .*fields\.gpkg"):
        write_item(paths, tmp_path / "map.json")
    paths.pop("polygons")
    paths["class"].write_text("no raster")
    with pytest.raises(SpinetError, match=r"Cannot read .*map_class\.tif"):
        write_item(paths, tmp_path / "map.json")
    assert not (tmp_path / "map.json").exists()


def test_an_existing_item_is_kept_and_a_full_disk_leaves_nothing(tmp_path):
    paths = write_layers(tmp_path)
    (tmp_path / "map.json").write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        write_item(paths, tmp_path / "map.json")
    with largest_file(500), pytest.raises(SpinetError, match=r"Cannot write .*map\.json"):
        write_item(paths, tmp_path / "map.json", overwrite=True)
    assert (tmp_path / "map.json").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 7
