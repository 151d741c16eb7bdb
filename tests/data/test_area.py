"""Areas and dates as users give them, and what they cut from a scene."""

import datetime
import json

import numpy as np
import pyproj
import pytest
import xarray as xr
from rasterio.crs import CRS

from spinet_tf.data import open_scene
from spinet_tf.data.area import choose_dates, crop_to_area, pixels_within, read_area, read_dates
from spinet_tf.errors import SpinetError
from tests.data.rasters import NORTH, WEST, lonlat

UTM = CRS.from_epsg(32633)
EAST = datetime.timezone(datetime.timedelta(hours=2))


@pytest.fixture
def scene():
    """30 x 40 pixels whose numbers are their places, with labels three times finer."""
    numbers = np.arange(2 * 30 * 40, dtype="uint16").reshape(2, 1, 30, 40)
    dataset = xr.Dataset(
        {
            "bands": (("time", "band", "y", "x"), numbers),
            "valid": (("time", "y", "x"), np.ones((2, 30, 40), bool)),
            "label": (("y_label", "x_label"), np.arange(90 * 120, dtype="uint32").reshape(90, 120) % 2 == 1),
        },
        {
            "band": ["B02"],
            "time": np.array(["2019-03-01T10", "2019-05-01T10"], "datetime64[ns]"),
            "y": NORTH - 5 - 10 * np.arange(30.0),
            "x": WEST + 5 + 10 * np.arange(40.0),
        },
        {"name": "place"},
    )
    return dataset.assign(label=dataset.label.astype("uint8")).rio.write_crs(UTM)


def polygon(crs=None):
    """A triangle over columns 10 to 19 and rows 5 to 14."""
    corners = [(WEST + 101, NORTH - 51), (WEST + 199, NORTH - 51), (WEST + 150, NORTH - 149), (WEST + 101, NORTH - 51)]
    if crs is None:
        to_degrees = pyproj.Transformer.from_crs(UTM.to_wkt(), "EPSG:4326", always_xy=True)
        return {"type": "Polygon", "coordinates": [[to_degrees.transform(*corner) for corner in corners]]}
    crs = {"type": "name", "properties": {"name": crs}}
    return {"type": "Polygon", "crs": crs, "coordinates": [corners]}


class TestArea:
    @pytest.mark.parametrize("form", ["geometry", "feature", "collection", "geometries", "utm", "file", "path"])
    def test_every_form_of_geojson(self, scene, form, tmp_path):
        feature = {"type": "Feature", "properties": {"area": [1, 2]}, "geometry": polygon()}
        area = {
            "geometry": polygon(),
            "feature": feature,
            "collection": {"type": "FeatureCollection", "features": [feature]},
            "geometries": {"type": "GeometryCollection", "geometries": [polygon()]},
            "utm": polygon("urn:ogc:def:crs:EPSG::32633"),
            "file": str(tmp_path / "area.geojson"),
            "path": tmp_path / "area.geojson",
        }[form]
        (tmp_path / "area.geojson").write_text(json.dumps(feature))
        cut = crop_to_area(scene, read_area(area))
        xr.testing.assert_identical(
            cut, scene.isel(y=slice(5, 15), x=slice(10, 20), y_label=slice(15, 45), x_label=slice(30, 60))
        )

    @pytest.mark.parametrize("as_text", [False, True])
    def test_a_box_in_degrees(self, scene, as_text):
        # Eight tenths of the pixels at each edge are inside.
        box = lonlat(WEST + 102, NORTH - 52, 9.6, 19.6)
        cut = crop_to_area(scene, read_area(",".join(map(repr, box)) if as_text else box))
        np.testing.assert_array_equal(cut.x, scene.x[10:30])
        np.testing.assert_array_equal(cut.y, scene.y[5:15])

    def test_what_only_rounding_touches_stays_out(self, scene):
        cut = crop_to_area(scene, read_area(lonlat(WEST + 100, NORTH - 50, 10, 20)))
        assert cut.sizes["x"] == 20
        assert cut.sizes["y"] == 10

    def test_scenes_that_run_the_other_way(self, scene):
        turned = scene.isel(y=slice(None, None, -1), x=slice(None, None, -1)).drop_vars("label")
        cut = crop_to_area(turned, read_area(polygon()))
        xr.testing.assert_identical(cut, turned.isel(y=slice(15, 25), x=slice(20, 30)))

    def test_an_area_over_the_edge_gives_what_there_is(self, scene):
        cut = crop_to_area(scene, read_area(lonlat(WEST - 500, NORTH + 500, 100, 59.5)))
        assert (cut.sizes["y"], cut.sizes["x"]) == (30, 10)

    def test_outside(self, scene):
        area = read_area((14.0, 46.0, 14.1, 46.1))
        with pytest.raises(SpinetError, match=r"The area lies outside of place\. Its bounds are 500000 .* EPSG:32633"):
            crop_to_area(scene, area)

    def test_smaller_than_two_pixels(self, scene):
        with pytest.raises(SpinetError, match="an area of at least 2 x 2 pixels of place"):
            crop_to_area(scene, read_area(lonlat(WEST + 102, NORTH - 52, 0.5, 20)))

    @pytest.mark.parametrize("change", [lambda s: s.drop_vars("spatial_ref"), lambda s: s.drop_vars(["y", "x"])])
    def test_without_georeference(self, scene, change):
        with pytest.raises(SpinetError, match="place has no coordinate reference system"):
            crop_to_area(change(scene).drop_encoding(), read_area(polygon()))

    @pytest.mark.parametrize(
        ("area", "message"),
        [
            ((15, 46, 14, 47), "west < east .* Received: 15, 46, 14, 47"),
            ((14, 46, 15, 146), "south < north in -90 to 90"),
            ((1, 2, 3), "west, south, east, north in degrees, or GeoJSON"),
            ("1,2,3,a", "west, south, east, north in degrees"),
            (7, "Received: 7"),
            ("absent.geojson", "absent.geojson cannot be read: .*No such file"),
            ({"type": "Point", "coordinates": [14, 46]}, "GeoJSON of a polygon in the area. Received: 1 points"),
            ({"type": "Polygon", "coordinates": []}, "Expected GeoJSON"),
            ({"type": "Polygon", "coordinates": [[["a", "b"]]]}, "Expected GeoJSON"),
            ({"type": "Polygon", "coordinates": [[[500000, 5100000]] * 4]}, "Expected degrees, longitude first"),
            (polygon("EPSG:123456"), "Expected GeoJSON with coordinates .*CRS"),
        ],
    )
    def test_what_is_no_area(self, area, message, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SpinetError, match=message):
            read_area(area)

    def test_damaged_files(self, tmp_path):
        for content in (b"{", b"\xff\xfe", b"[" * 100_000, b"3", b'"text"', b'{"coordinates": [[[1e999, 2]]]}'):
            (tmp_path / "area.json").write_bytes(content)
            with pytest.raises(SpinetError, match=r"area\.json"):
                read_area(tmp_path / "area.json")

    def test_where_the_crs_does_not_reach(self):
        pole = {"type": "Polygon", "coordinates": [[[-75, 0], [-74, 0], [-74, 1]]]}
        with pytest.raises(SpinetError, match=r"cannot be expressed|can express"):
            read_area(pole).bounds(UTM)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, (0, 10)), (10.5, 19, (1, 2)), (-50, 9.999, (0, 1)), (95, 500, (9, 10)), (150, 200, (10, 10))],
)
def test_pixels_within(low, high, expected):
    found = pixels_within(low, high, 0, 10, 10)
    assert (found.start, found.stop) == expected


class TestDates:
    @pytest.mark.parametrize(
        ("dates", "start", "stop"),
        [
            ("2019-03-01/2019-09-01", "2019-03-01", "2019-09-02"),
            (("2019-03-01", "2019-09-01"), "2019-03-01", "2019-09-02"),
            ([datetime.date(2019, 3, 1), np.datetime64("2019-09-01")], "2019-03-01", "2019-09-02"),
            ("2019-03/2019-04", "2019-03-01", "2019-05-01"),
            ("2020", "2020-01-01", "2021-01-01"),
            (datetime.date(2020, 2, 29), "2020-02-29", "2020-03-01"),
            ("2019-03-01T10:30:00Z/..", "2019-03-01T10:30", None),
            (("..", "2019-03-01T10:30"), None, "2019-03-01T10:31"),
            ((datetime.datetime(2019, 3, 1, 1, tzinfo=EAST), None), "2019-02-28T23:00", None),
        ],
    )
    def test_every_form(self, dates, start, stop):
        found = read_dates(dates)
        assert found.start == (None if start is None else np.datetime64(start))
        assert found.stop == (None if stop is None else np.datetime64(stop))

    def test_both_ends_are_included(self):
        times = np.array(["2019-02-28T23:59:59", "2019-03-01T00:00", "2019-03-31T23:59:59.9", "2019-04-01"], "M8[ns]")
        assert read_dates("2019-03").contain(times).tolist() == [False, True, True, False]

    def test_choice(self, scene):
        xr.testing.assert_identical(choose_dates(scene, read_dates("2019-04/..")), scene.isel(time=[1]))

    @pytest.mark.parametrize(
        ("dates", "message"),
        [
            ("2019-13-01", "such as \"2019-03-01\". Received: '2019-13-01'"),
            ("March", "Received: 'March'"),
            ("2019-03-01/2019-02-01", "end after they start"),
            ("2019/2020/2021", "or a pair"),
            ((3, 4), "Received: 3"),
        ],
    )
    def test_what_are_no_dates(self, dates, message):
        with pytest.raises(SpinetError, match=message):
            read_dates(dates)

    def test_none_in_range(self, scene):
        with pytest.raises(
            SpinetError, match=r"No date of place lies in 2020-01-01/2020-12-31\. It has 2, 2019-03-01 to 2019-05-01"
        ):
            choose_dates(scene, read_dates("2020"))
        with pytest.raises(SpinetError, match="place has no dates"):
            choose_dates(scene.drop_vars("time"), read_dates("2020"))


def test_of_files(scene, tmp_path):
    scene.to_netcdf(tmp_path / "place.nc", engine="h5netcdf")
    cut = open_scene(tmp_path / "place.nc", area=polygon(), dates="2019-05-01")
    expected = scene.isel(time=[1], y=slice(5, 15), x=slice(10, 20), y_label=slice(15, 45), x_label=slice(30, 60))
    xr.testing.assert_equal(cut, expected)
    # A dataset that is a scene already is cut as well.
    xr.testing.assert_equal(open_scene(scene, area=polygon(), dates="2019-05"), expected)
