"""The page of a map carries what the files hold, and nothing half-written is left."""

import base64
import gzip
import io
import json
import os
import re
import resource
import shutil

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine
from PIL import Image

from spinet_tf.errors import SpinetError
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.view import images, layers, write_view
from tests.inference.scenes import CRS, TRANSFORM, make_scene
from tests.inference.view_maps import DATES, TINTS, make_tinted_scene, write_maps, write_page


@pytest.fixture(scope="module")
def scene():
    return make_tinted_scene()


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    return write_page(scene, tmp_path_factory.mktemp("view"))


def contents(page):
    found = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def levels(data, name):
    layer = next(layer for layer in data["layers"] if layer["name"] == name)
    values = np.frombuffer(gzip.decompress(base64.b64decode(layer["levels"])), np.uint8)
    return values.reshape(data["map"]["height"], data["map"]["width"])


def picture(frame):
    with Image.open(io.BytesIO(base64.b64decode(frame["jpeg"]))) as image:
        return np.asarray(image)


def band(path, **options):
    with rasterio.open(path, **options) as file:
        return file.read(1)


# === What the page carries ===


def test_layers_hold_the_files_values(folder):
    data = contents(folder / "page.html")
    for name, file in (("probability", "map.tif"), ("uncertainty", "map_uncertainty.tif")):
        values = band(folder / file)
        shown = levels(data, name)
        np.testing.assert_array_equal(shown == 255, np.isnan(values))
        assert np.nanmax(np.abs(shown / 254 - values)) <= 0.5 / 254 + 1e-6
    np.testing.assert_array_equal(levels(data, "class"), band(folder / "map_class.tif"))
    assert [layer["title"] for layer in data["layers"]] == ["Probability of cultivation", "Class", "Uncertainty"]


def test_a_uint8_map_is_carried_as_it_is(scene, tmp_path):
    write_maps(tmp_path / "map.tif", Grid.of_scene(scene, 4), dtype="uint8", names=())
    write_view(tmp_path / "map.tif", tmp_path / "page.html")
    stored = band(tmp_path / "map.tif")
    assert len(np.unique(stored)) > 250
    np.testing.assert_array_equal(levels(contents(tmp_path / "page.html"), "probability"), stored)
    # Whoever wrote the same numbers without saying their scale meant the same.
    with rasterio.open(tmp_path / "map.tif") as file:
        profile = file.profile
    with rasterio.open(tmp_path / "plain.tif", "w", **profile) as file:
        file.write(stored, 1)
    write_view(tmp_path / "plain.tif", tmp_path / "plain.html")
    np.testing.assert_array_equal(levels(contents(tmp_path / "plain.html"), "probability"), stored)


def test_without_a_map_of_classes_they_are_made_from_the_probability(folder, scene, tmp_path):
    shutil.copy(folder / "map.tif", tmp_path / "map.tif")
    write_view(tmp_path / "map.tif", tmp_path / "page.html", threshold=0.7)
    data = contents(tmp_path / "page.html")
    probability = levels(data, "probability")
    np.testing.assert_array_equal(levels(data, "class"), np.where(probability == 255, 255, probability > 0.7 * 254))
    assert [layer["title"] for layer in data["layers"]] == ["Probability of cultivation", "Class: above 0.7"]
    assert data["images"] is None


def test_maps_elsewhere_are_taken_by_their_paths(folder, tmp_path):
    for source, name in (("map", "p"), ("map_class", "c"), ("map_uncertainty", "u")):
        shutil.copy(folder / f"{source}.tif", tmp_path / f"{name}.tif")
    paths = {"class_path": tmp_path / "c.tif", "uncertainty_path": tmp_path / "u.tif"}
    write_view(tmp_path / "p.tif", tmp_path / "page.html", **paths)
    given, found = contents(tmp_path / "page.html"), contents(folder / "page.html")
    for name in ("class", "uncertainty"):
        np.testing.assert_array_equal(levels(given, name), levels(found, name))


def test_dates_are_the_clearest_in_their_order(folder, scene, tmp_path):
    found = contents(folder / "page.html")["images"]
    assert [frame["date"] for frame in found["frames"]] == DATES
    assert [frame["clear"] for frame in found["frames"]] == [round(20 / 21, 3), 1, 1]
    for frame, tint in zip(found["frames"], TINTS, strict=True):
        assert picture(frame).shape == (21, 17, 3)
        assert np.abs(picture(frame) - tint).max() <= 4
    assert found["box"] == pytest.approx([0, 0, 68, 84])
    write_view(folder / "map.tif", tmp_path / "page.html", scene, count=2)
    data = contents(tmp_path / "page.html")
    assert [frame["date"] for frame in data["images"]["frames"]] == DATES[1:]
    assert "the 2 clearest of 4" in " ".join(data["notes"])
    # Frames without dates have numbers.
    write_view(folder / "map.tif", tmp_path / "page.html", scene.drop_vars("time"), count=1, overwrite=True)
    assert [frame["date"] for frame in contents(tmp_path / "page.html")["images"]["frames"]] == ["Frame 3"]


def test_images_lie_where_the_map_does(scene, tmp_path, monkeypatch):
    # A map of rows 5 to 14 and columns 3 to 12 of the scene, shifted by half a pixel of the scene.
    transform = TRANSFORM @ Affine.translation(3.5, 5.5) @ Affine.scale(1 / 4)
    write_maps(tmp_path / "map.tif", Grid(40, 40, transform, rasterio.CRS.from_string(CRS)), names=())
    scene = scene.copy(deep=True)
    scene["bands"][:] = np.arange(21, dtype=np.uint16)[:, None] * 100 + np.arange(17, dtype=np.uint16)
    write_view(tmp_path / "map.tif", tmp_path / "page.html", scene)
    found = contents(tmp_path / "page.html")["images"]
    assert found["box"] == pytest.approx([-2, -2, 42, 42])
    assert picture(found["frames"][0]).shape == (11, 11, 3)
    rising = picture(found["frames"][0]).mean(axis=(1, 2))
    assert np.all(np.diff(rising) > 5)
    # Of a scene too large for a page every third pixel is shown, the middle one of three.
    monkeypatch.setattr(images, "LONGEST_SIDE", 4)
    write_view(tmp_path / "map.tif", tmp_path / "page.html", scene, overwrite=True)
    thinned = contents(tmp_path / "page.html")["images"]
    assert picture(thinned["frames"][0]).shape == (4, 4, 3)
    assert thinned["box"] == pytest.approx([-2, -2, 46, 46])
    # Row 9 of the scene, the fifth here, is the middle one of the second three.
    scene["bands"][:] = np.where(np.arange(21) == 9, 3000, 100)[:, None]
    write_view(tmp_path / "map.tif", tmp_path / "page.html", scene, overwrite=True)
    rows = picture(contents(tmp_path / "page.html")["images"]["frames"][0]).mean(axis=(1, 2))
    np.testing.assert_allclose(rows, [0, 255, 0, 0], atol=8)


def test_a_scene_without_the_bands_of_colour_is_grey(folder, scene, tmp_path):
    write_view(folder / "map.tif", tmp_path / "page.html", scene.isel(band=[7, 3]))
    image = picture(contents(tmp_path / "page.html")["images"]["frames"][0])
    assert np.ptp(image.astype(int), axis=2).max() <= 2


def test_a_large_map_is_shown_from_its_overview(tmp_path, monkeypatch):
    grid = Grid(600, 524, TRANSFORM, rasterio.CRS.from_string(CRS))
    write_maps(tmp_path / "map.tif", grid)
    monkeypatch.setattr(layers, "LONGEST_SIDE", 300)
    write_view(tmp_path / "map.tif", tmp_path / "page.html")
    data = contents(tmp_path / "page.html")
    overview = band(tmp_path / "map.tif", overview_level=0)
    assert overview.shape == (300, 262)
    expected = np.where(np.isnan(overview), 255, np.rint(254 * np.nan_to_num(overview)))
    np.testing.assert_array_equal(levels(data, "probability"), expected)
    np.testing.assert_array_equal(levels(data, "class"), band(tmp_path / "map_class.tif", overview_level=0))
    assert data["map"]["transform"][:6] == [20, 0, TRANSFORM.c, 0, -20, TRANSFORM.f]
    assert "524 x 600 pixels" in data["notes"][0]
    assert "262 x 300 pixels of its overview" in data["notes"][0]


def test_a_large_map_without_overviews_is_averaged(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "LONGEST_SIDE", 50)
    write_view(folder / "map.tif", tmp_path / "page.html")
    data = contents(tmp_path / "page.html")
    probability = band(folder / "map.tif").reshape(42, 2, 34, 2).swapaxes(1, 2).reshape(42, 34, 4)
    known = ~np.isnan(probability).all(axis=2)
    np.testing.assert_array_equal(levels(data, "probability") == 255, ~known)
    expected = np.rint(254 * np.nanmean(probability[known], axis=1))
    assert np.abs(levels(data, "probability")[known] - expected).max() <= 1
    cultivated = band(folder / "map_class.tif").reshape(42, 2, 34, 2).sum(axis=(1, 3), dtype=int)
    np.testing.assert_array_equal(levels(data, "class")[cultivated == 3], 1)
    np.testing.assert_array_equal(levels(data, "class")[cultivated == 1], 0)


def test_a_map_without_georeference_counts_in_pixels(tmp_path):
    scene = make_scene(georeferenced=False)
    with pytest.warns(UserWarning, match="no CRS"):
        write_maps(tmp_path / "map.tif", Grid(84, 68), names=())
    write_view(tmp_path / "map.tif", tmp_path / "page.html", scene)
    data = contents(tmp_path / "page.html")
    assert data["map"]["transform"] == [1, 0, 0, 0, 1, 0]
    assert (data["map"]["crs"], data["map"]["metres"], data["map"]["places"]) == (None, None, None)
    assert data["images"]["box"] == [0, 0, 68, 84]
    with pytest.raises(SpinetError, match="whole number of times"):
        write_view(tmp_path / "map.tif", tmp_path / "page.html", scene.isel(x=slice(9)), overwrite=True)


def test_other_systems_of_coordinates(tmp_path):
    def describe(name, crs, transform):
        write_maps(tmp_path / f"{name}.tif", Grid(20, 100, transform, rasterio.CRS.from_string(crs)), names=())
        write_view(tmp_path / f"{name}.tif", tmp_path / f"{name}.html")
        return contents(tmp_path / f"{name}.html")["map"]

    # A degree of longitude is 55.8 km at 60 degrees north, one of latitude 111.4 km.
    degrees = describe("degrees", "EPSG:4326", Affine(1e-4, 0, 30, 0, -1e-4, 60))
    assert degrees["metres"] == pytest.approx([5.58, 11.14], abs=0.01)
    # Over the antimeridian longitudes go on, so that they can be interpolated.
    fiji = describe("fiji", "EPSG:32701", Affine(10, 0, 166021.4 - 500, 0, -10, 1e7))
    assert fiji["places"]["values"][0][:17:8] == pytest.approx([179.9955, 180, 180.0045], abs=1e-4)
    field = describe("field", 'LOCAL_CS["field",UNIT["metre",1]]', Affine(1, 0, 0, 0, -1, 0))
    assert (field["metres"], field["places"]) == (None, None)


def test_the_page_refers_to_nothing_outside(folder):
    text = (folder / "page.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'"(jpeg|levels|colours)":"[^"]*"', "", text))
    assert "default-src 'none'; img-src data:; script-src 'sha256-" in text


def test_the_same_map_gives_the_same_page(folder, scene, tmp_path):
    write_view(folder / "map.tif", tmp_path / "page.html", scene)
    assert (tmp_path / "page.html").read_bytes() == (folder / "page.html").read_bytes()


# === What is refused ===


def test_what_is_no_map_is_refused(folder, tmp_path):
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes((folder / "map.tif").read_bytes()[:9000])
    with rasterio.open(folder / "map.tif") as file:
        values, profile = file.read(1), file.profile
    two = tmp_path / "two.tif"
    with rasterio.open(two, "w", **{**profile, "count": 2}) as file:
        file.write(np.stack([values, values]))
    percent = tmp_path / "percent.tif"
    with rasterio.open(percent, "w", **profile) as file:
        file.write(100 * values, 1)
    # It would make GDAL read other files.
    virtual = tmp_path / "virtual.tif"
    rasterio.shutil.copy(folder / "map.tif", virtual, driver="VRT")
    rotated = tmp_path / "rotated.tif"
    with rasterio.open(rotated, "w", **{**profile, "transform": TRANSFORM @ Affine.rotation(10)}) as file:
        file.write(values, 1)
    for path, reason in (
        (tmp_path / "nothing.tif", "There is no file"),
        (tmp_path, "There is no file"),
        (text, "Cannot read .*text.tif as a GeoTIFF"),
        (damaged, "Cannot read .*damaged.tif as a GeoTIFF"),
        (virtual, "Cannot read .*virtual.tif as a GeoTIFF"),
        (two, "one band"),
        (percent, "numbers from 0 to 1"),
        (rotated, "rotated"),
        (folder / "map_class.tif", "one of classes"),
    ):
        with pytest.raises(SpinetError, match=reason):
            write_view(path, tmp_path / "page.html")
    for path, reason in ((folder / "map.tif", "Expected the classes 0, 1 and 255"), (text, "Cannot read")):
        with pytest.raises(SpinetError, match=reason):
            write_view(folder / "map.tif", tmp_path / "page.html", class_path=path)
    assert not list(tmp_path.glob("*.html"))
    assert not list(tmp_path.glob(".*"))


def test_maps_of_different_grids_are_refused(folder, scene, tmp_path):
    write_maps(tmp_path / "other.tif", Grid.of_scene(scene.isel(x=slice(1, None)), 4))
    for name in ("class", "uncertainty"):
        other = tmp_path / f"other_{name}.tif"
        with pytest.raises(SpinetError, match=rf"Expected .*{other.name} on the grid of .*map\.tif"):
            write_view(folder / "map.tif", tmp_path / "page.html", **{f"{name}_path": other})


def test_a_scene_of_another_place_is_refused(folder, scene, tmp_path):
    elsewhere = scene.assign_coords(x=scene["x"] + 170).rio.write_transform(TRANSFORM @ Affine.translation(17, 0))
    zone = scene.rio.write_crs("EPSG:32632")
    nowhere = make_scene(georeferenced=False)
    for other, reason in (
        (elsewhere, "do not overlap"),
        (zone, "in the CRS of the map, EPSG:32633. Received: EPSG:32632"),
        (nowhere, "Received: none"),
        (scene.assign(valid=xr.zeros_like(scene["valid"])), "at least one frame with a valid pixel"),
    ):
        with pytest.raises(SpinetError, match=reason):
            write_view(folder / "map.tif", tmp_path / "page.html", other)
    assert not list(tmp_path.iterdir())


def test_an_existing_page_is_kept_unless_overwritten(folder, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        write_view(folder / "map.tif", page)
    assert page.read_text() == "mine"
    assert write_view(folder / "map.tif", page, overwrite=True) == page
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_nothing_is_left_when_the_disk_is_full(folder, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(SpinetError, match=r"Cannot write .*page\.html: File too large"):
            write_view(folder / "map.tif", tmp_path / "page.html")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_is_shown_as_far_as_it_goes(folder, scene, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_view(folder / "map.tif", tmp_path / "page.html", scene.assign_attrs(name=name))
    assert "<title>map.tif, caf?</title>" in (tmp_path / "page.html").read_text()
