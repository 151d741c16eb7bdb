"""All files of a map by one call, or one error before the work."""

import json

import geopandas
import numpy as np
import pytest
import rasterio

from spinet_tf.errors import SpinetError
from spinet_tf.inference import predict_scene
from spinet_tf.inference.polygons import write_polygons
from tests.inference.scenes import MeanEngine, make_scene
from tests.inference.test_restart import Failing, contents


@pytest.fixture(scope="module")
def scene():
    """Bright land in the west, which a threshold of 0.4 calls cultivated."""
    scene = make_scene(60, 50)
    scene["bands"][:] = np.where(np.arange(50) < 20, 7000, 1000).astype(np.uint16)
    return scene


def everything(folder):
    return {
        "uncertainty": True,
        "polygons": folder / "fields.gpkg",
        "quicklook": folder / "map.png",
        "stac_item": folder / "map.json",
    }


def test_polygons_picture_and_item_belong_to_the_map(scene, tmp_path):
    result = predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **everything(tmp_path))
    names = ["map.tif", "map_uncertainty.tif", "map_class.tif", "fields.gpkg", "map.png", "map.json"]
    assert [path.rsplit("/", 1)[1] for path in result.attrs["files"]] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    with rasterio.open(tmp_path / "map_class.tif") as file:
        assert file.tags()["THRESHOLD"] == "0.5"
    fields = geopandas.read_file(tmp_path / "fields.gpkg")
    np.testing.assert_allclose(fields["area_ha"], [60 * 20 / 100])
    np.testing.assert_allclose(fields["probability"], [0.7])
    assert fields.crs == scene.rio.crs
    item = json.loads((tmp_path / "map.json").read_text())
    assert set(item["assets"]) == {"probability", "uncertainty", "class", "polygons", "quicklook"}
    assert item["properties"]["start_datetime"][:10] == "2019-03-01"
    assert item["properties"]["end_datetime"][:10] == "2019-03-31"
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"


def test_what_fails_after_the_map_is_made_by_the_next_run(scene, tmp_path, monkeypatch):
    options = everything(tmp_path)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("spinet_tf.inference.polygons.write_polygons", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **options)
    assert "map.tif" in contents(tmp_path)
    monkeypatch.setattr("spinet_tf.inference.polygons.write_polygons", write_polygons)
    engine = MeanEngine()
    result = predict_scene(engine, scene, tmp_path / "map.tif", **options)
    assert result.attrs["resumed"] == result.attrs["blocks"]
    assert len(engine.asked) == 1  # by the plan
    assert len(contents(tmp_path)) == 6
    assert not (tmp_path / ".map.tif.parts").exists()


def test_the_picture_shows_bands_that_the_model_does_not_see(scene, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "spinet_tf.inference.quicklook.write_quicklook", lambda path, png, scene, **_: shown.append(scene)
    )
    predict_scene(MeanEngine(band_names=("B08",)), scene, tmp_path / "map.tif", quicklook=tmp_path / "map.png")
    assert {"B02", "B03", "B04"} <= set(shown[0]["band"].values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"polygons": "fields.shp"}, r"GeoPackage \(\.gpkg\).*Received: fields\.shp"),
        ({"polygons": "fields.gpkg", "min_area": -1}, "0 or more. Received: min_area -1"),
        ({"quicklook": "map.jpg"}, r"a \.png file\. Received: map\.jpg"),
        ({"stac_item": "item.xml"}, r"a \.json file\. Received: item\.xml"),
        ({"threshold": 1.5}, "threshold from 0 to 1. Received: 1.5"),
        ({"dtype": "int16"}, "float32 or uint8. Received: int16"),
        ({"batch": 0}, "at least 1 tile. Received: 0"),
        ({"frames": "random"}, "no map repeats"),
        ({"max_cloud": 2}, "max_cloud from 0 to 1"),
        ({"tile": 8, "overlap": 8}, "tile size above the overlap"),
        ({"seam_free": 7}, "even number of pixels"),
    ],
)
def test_impossible_options_are_refused_before_the_work(scene, tmp_path, options, message):
    engine = MeanEngine()
    with pytest.raises(SpinetError, match=message):
        predict_scene(engine, scene, tmp_path / "map.tif", **options)
    assert engine.asked == []
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_are_refused_before_the_work(scene, tmp_path):
    engine = Failing(0, AssertionError())
    with pytest.raises(SpinetError, match="a CRS for polygons"):
        predict_scene(engine, make_scene(georeferenced=False), tmp_path / "map.tif", polygons=tmp_path / "p.gpkg")
    with pytest.raises(SpinetError, match="Expected an output for the map"):
        predict_scene(engine, scene, quicklook=tmp_path / "map.png")
    with pytest.raises(SpinetError, match="is a folder, and a file would replace it"):
        predict_scene(engine, scene, tmp_path, overwrite=True)
    (tmp_path / "map.json").write_text("mine")
    with pytest.raises(SpinetError, match=r"map\.json exists already"):
        predict_scene(engine, scene, tmp_path / "map.tif", stac_item=tmp_path / "map.json")
    assert contents(tmp_path) == {"map.json": b"mine"}
