"""STAC items from files, folders, servers and pystac."""

import copy
import json
import shutil

import numpy as np
import pystac
import pystac_client
import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data import open_scene
from spinet_tf.errors import SpinetError
from tests.data.rasters import (
    IMAGE_SUFFIXES,
    NORTH,
    WEST,
    at_10m,
    coarse,
    lonlat,
    product,
    stac_item,
    write_json,
    write_raster,
)
from tests.data.stac_server import serve
from tests.data.test_band_names import EARTH_SEARCH

DAYS = ("2022-04-02T10:00:31Z", "2022-04-12T10:00:31Z")
# How three catalogues name the bands.
KEYS = {
    "Earth Search": {band: name for name, band in EARTH_SEARCH.items()} | {"SCL": "scl"},
    "Planetary Computer": {band: band for band in (*BANDS, "SCL")},
    "Copernicus Data Space": {
        band: f"{band}_{60 if band in ('B01', 'B09') else 10 if band in ('B02', 'B03', 'B04', 'B08') else 20}m"
        for band in (*BANDS, "SCL")
    },
}
OFFSET = {"scale": 1e-4, "offset": -0.1}


@pytest.fixture
def days(rng):
    """Two images, each {band: (y, x)}."""
    return [product(rng), product(rng)]


@pytest.fixture
def items(tmp_path, days):
    """Their items, with relative addresses, and files beside them; Planetary Computer's names and metadata."""
    made = []
    for n, (day, bands) in enumerate(zip(DAYS, days, strict=True)):
        hrefs = {}
        for band, values in bands.items():
            path = write_raster(tmp_path / f"item-{n}" / f"{band}.tif", values, 36 * 10 / len(values))
            hrefs[band] = f"./item-{n}/{path.name}"
        properties = {"s2:processing_baseline": "05.09", "eo:cloud_cover": 10.0 + 50 * n}
        made.append(stac_item(f"item-{n}", day, hrefs, properties))
    return made


def expected(days, offset=-1000):
    numbers = np.array([[at_10m(bands)[band] for band in BANDS] for bands in days]).astype(int) + offset
    return numbers.clip(1), np.isin([at_10m(bands)["SCL"] for bands in days], (4, 5, 6, 7))


def check(scene, days, offset=-1000):
    numbers, valid = expected(days, offset)
    assert scene.band.values.tolist() == list(BANDS)
    np.testing.assert_array_equal(scene.bands, numbers)
    np.testing.assert_array_equal(scene.valid, valid)
    assert scene.rio.transform()[:6] == (10, 0, WEST, 0, -10, NORTH)
    assert [str(time)[:19] + "Z" for time in scene.time.values] == list(DAYS[: len(days)])
    assert scene.rio.crs.to_epsg() == 32633


def collection_of(items):
    return {"type": "FeatureCollection", "features": items}


def catalogue(folder, items, kind="Catalog"):
    """A static catalogue with a catalogue in it and the items in that; its file."""
    head = {"type": kind, "stac_version": "1.0.0", "id": "root", "description": "for tests"}
    links = []
    for item in items:
        item = copy.deepcopy(item)
        for asset in item["assets"].values():
            asset["href"] = f"../.{asset['href']}"
        write_json(folder / "year" / item["id"] / "item.json", item)
        links.append({"rel": "item", "href": f"./{item['id']}/item.json"})
    links.append({"rel": "parent", "href": "../catalog.json"})
    write_json(folder / "year" / "catalog.json", {**head, "type": "Catalog", "id": "year", "links": links})
    for item in items:
        shutil.move(folder / item["id"], folder / "year" / item["id"] / item["id"])
    root = {
        **head,
        "links": [{"rel": "child", "href": "./year/catalog.json"}, {"rel": "root", "href": "./catalog.json"}],
    }
    if kind == "Collection":
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        root |= {"license": "other", "extent": extent}
    for path in folder.rglob("item.json"):
        text = path.read_text().replace("../../", "./")
        path.write_text(text)
    return write_json(folder / ("catalog.json" if kind == "Catalog" else "collection.json"), root)


class TestFiles:
    def test_an_item_collection(self, tmp_path, items, days):
        scene = open_scene(write_json(tmp_path / "summer.json", collection_of(items)))
        check(scene, days)
        assert scene.attrs["name"] == "summer"

    def test_an_item(self, tmp_path, items, days):
        check(open_scene(write_json(tmp_path / "item.geojson", items[0])), days[:1])

    def test_pages_of_an_item_collection(self, tmp_path, items, days):
        write_json(tmp_path / "second.json", collection_of(items[1:]))
        first = {**collection_of(items[:1]), "links": [{"rel": "next", "href": str(tmp_path / "second.json")}]}
        check(open_scene(write_json(tmp_path / "first.json", first)), days)

    @pytest.mark.parametrize("kind", ["Catalog", "Collection"])
    def test_a_catalogue(self, tmp_path, items, days, kind):
        path = catalogue(tmp_path, items, kind)
        check(open_scene(path), days)
        check(open_scene(tmp_path), days)

    @pytest.mark.parametrize("form", ["{}.json", "{0}/{0}.json"])
    def test_a_folder_of_items(self, tmp_path, items, days, form):
        for item in items:
            for asset in item["assets"].values():
                asset["href"] = str(tmp_path / asset["href"])
            write_json(tmp_path / form.format(item["id"]), item)
        (tmp_path / "notes.json").write_text("{")
        check(open_scene(tmp_path), days)

    def test_objects_of_pystac(self, tmp_path, items, days):
        for item in items:
            for asset in item["assets"].values():
                asset["href"] = str(tmp_path / asset["href"])
        made = [pystac.Item.from_dict(item) for item in items]
        check(open_scene(made), days)
        check(open_scene(pystac.ItemCollection(made)), days)
        check(open_scene(made[0]), days[:1])
        assert open_scene(made, max_cloud=0.5).sizes["time"] == 1
        assert open_scene(iter(made), dates="2022-04-12").sizes["time"] == 1


class TestCatalogues:
    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    @pytest.mark.parametrize("name", KEYS)
    def test_names_of_assets(self, tmp_path, days, name, suffix):
        hrefs = {}
        for band, values in days[0].items():
            path = write_raster(tmp_path / f"{band}{suffix}", values, 36 * 10 / len(values))
            hrefs[KEYS[name][band]] = path
        # Earth Search has each band in a second format, and all have pictures.
        hrefs |= {"visual": path, "TCI_10m": path, "thumbnail": path}
        if name == "Copernicus Data Space":
            for band in ("B02", "B05"):
                values = coarse(days[0][band], len(days[0][band]) // 6)
                hrefs = {f"{band}_60m": write_raster(tmp_path / f"{band}_60m{suffix}", values, 60.0), **hrefs}
        item = stac_item("item", DAYS[0], {"red-jp2": path, **hrefs}, raster=OFFSET, projection=False)
        item["assets"]["red-jp2"]["eo:bands"] = [{"name": "red", "common_name": "red"}]
        check(open_scene(write_json(tmp_path / "item.json", item)), days[:1])

    @pytest.mark.parametrize("fields", ["eo:bands", "bands"])
    def test_bands_by_the_fields_of_assets(self, tmp_path, days, fields):
        path = write_raster(tmp_path / "a.tif", days[0]["B04"])
        item = stac_item("item", DAYS[0], {"image": path})
        item["assets"]["image"][fields] = [{"name": "B04", "eo:common_name": "red"}]
        scene = open_scene(write_json(tmp_path / "item.json", item), offset=0)
        assert scene.band.values.tolist() == ["B04"]
        np.testing.assert_array_equal(scene.bands[0, 0], days[0]["B04"])

    @pytest.mark.parametrize("key", ["proj:epsg", "proj:code"])
    def test_projection_is_believed(self, tmp_path, items, key):
        """Files are not opened for it: there are none."""
        for item in items:
            item["properties"].pop("proj:epsg")
            item["properties"][key] = 32633 if key == "proj:epsg" else "EPSG:32633"
            for asset in item["assets"].values():
                asset["href"] = "https://nowhere.invalid/B02.tif"
        scene = open_scene(write_json(tmp_path / "items.json", collection_of(items)))
        assert scene.sizes == {"time": 2, "band": 12, "y": 36, "x": 36}

    def test_times_of_other_zones(self, tmp_path, items):
        items[0]["properties"]["datetime"] = "2022-04-02T12:00:31+02:00"
        scene = open_scene(write_json(tmp_path / "items.json", items[0]))
        assert str(scene.time.values[0])[:19] == "2022-04-02T10:00:31"
        items[0]["properties"] |= {"datetime": None, "start_datetime": DAYS[0], "end_datetime": DAYS[0]}
        scene = open_scene(write_json(tmp_path / "items.json", items[0]))
        assert str(scene.time.values[0])[:19] == "2022-04-02T10:00:31"


class TestOffsets:
    def test_of_each_image(self, tmp_path, items, days):
        """One day, one date: the tiles of two baselines are still mosaicked in reflectance."""
        items[1]["properties"] |= {"s2:processing_baseline": "02.14", "datetime": DAYS[0]}
        scene = open_scene(write_json(tmp_path / "items.json", collection_of(items)))
        assert scene.sizes["time"] == 1
        first, second = expected(days[:1], -1000)[0][0], expected(days[1:], 0)[0][0]
        clear, data = expected(days)[1], [at_10m(bands)["SCL"] != 0 for bands in days]
        take_second = ~clear[0] & (clear[1] | (~data[0] & data[1]))
        np.testing.assert_array_equal(scene.bands[0], np.where(take_second, second, first))

    def test_as_given(self, tmp_path, items, days):
        check(open_scene(write_json(tmp_path / "items.json", collection_of(items)), offset=-7), days, -7)

    def test_unknown(self, tmp_path, items, days):
        for item in items:
            del item["properties"]["s2:processing_baseline"]
        path = write_json(tmp_path / "items.json", collection_of(items))
        with pytest.warns(UserWarning, match="^item-0 and 1 more: nothing says whether an offset is left") as caught:
            check(open_scene(path), days, 0)
        assert len([warning for warning in caught if warning.category is UserWarning]) == 1
        check(open_scene(path, offset=0), days, 0)  # and no warning

    def test_a_flag_that_is_wrong(self, tmp_path, items, days):
        """The numbers of the first day are dark, so its offset has been applied; those of the second are not."""
        for item in items:
            item["properties"]["earthsearch:boa_offset_applied"] = False
        dark, bright = (
            {name: values if name == "SCL" else change(values) for name, values in day.items()}
            for day, change in zip(
                days, (lambda values: values // 5 + 1, lambda values: values.clip(1000)), strict=True
            )
        )
        for n, bands in enumerate((dark, bright)):
            for name, values in bands.items():
                write_raster(tmp_path / f"item-{n}" / f"{name}.tif", values, 36 * 10 / len(values))
        path = write_json(tmp_path / "items.json", collection_of(items))
        with pytest.warns(UserWarning, match="^item-0: the catalogue says .* the numbers show that it has") as caught:
            scene = open_scene(path)
        assert len([warning for warning in caught if warning.category is UserWarning]) == 1
        np.testing.assert_array_equal(scene.bands[0], expected([dark], 0)[0][0])
        np.testing.assert_array_equal(scene.bands[1], expected([bright])[0][0])


class TestServers:
    def test_a_static_catalogue(self, tmp_path, items, days):
        catalogue(tmp_path, items)
        with serve(tmp_path) as (address, _):
            scene = open_scene(f"{address}/catalog.json")
            check(scene.load(), days)

    def test_a_file_that_is_gone(self, tmp_path, items):
        catalogue(tmp_path, items)
        next(tmp_path.rglob("item-1/*/B05.tif")).unlink()
        with serve(tmp_path) as (address, _):
            scene = open_scene(f"{address}/catalog.json")
            with pytest.raises(SpinetError, match=rf"{address}/.*B05\.tif cannot be read: .*404.*rows 2 to 3"):
                scene.isel(y=slice(2, 4), x=slice(2, 4)).bands.load()

    @pytest.mark.parametrize("pages", [None, 1])
    def test_an_api(self, tmp_path, items, days, pages):
        with serve(tmp_path, items, pages) as (address, log):
            for item in items:
                for asset in item["assets"].values():
                    asset["href"] = asset["href"].replace("./", f"{address}/")
            scene = open_scene(
                f"{address}/api",
                collection="sentinel-2-l2a",
                area=lonlat(WEST + 51, NORTH - 31, 20, 10),
                dates="2022-04",
            )
            assert scene.attrs["name"] == "sentinel-2-l2a"
            assert scene.rio.bounds() == (WEST + 50, NORTH - 240, WEST + 160, NORTH - 30)
            numbers, valid = expected(days)
            np.testing.assert_array_equal(scene.bands, numbers[:, :, 3:24, 5:16])
            np.testing.assert_array_equal(scene.valid, valid[:, 3:24, 5:16])
        assert len(log) == (1 if pages is None else 2)
        assert log[0]["collections"] == ["sentinel-2-l2a"]
        assert log[0]["datetime"] == "2022-04-01T00:00:00Z/2022-04-30T23:59:59Z"

    def test_clouds_are_left_to_the_server_and_checked_again(self, tmp_path, items):
        with serve(tmp_path, items) as (address, log):
            for item in items:
                for asset in item["assets"].values():
                    asset["href"] = asset["href"].replace("./", f"{address}/")
            area = lonlat(WEST, NORTH, 20, 10)
            scene = open_scene(f"{address}/api", collection="sentinel-2-l2a", area=area, max_cloud=0.5)
            assert scene.sizes["time"] == 1
        assert log[0]["query"] == {"eo:cloud_cover": {"lte": 50}}

    def test_what_a_search_needs(self, tmp_path, items):
        with serve(tmp_path, items) as (address, _):
            with pytest.raises(SpinetError, match=r"Expected an area and a collection.*no area"):
                open_scene(f"{address}/api", collection="sentinel-2-l2a")
            with pytest.raises(SpinetError, match="the collection None"):
                open_scene(f"{address}/api", area=(14, 46, 15, 47))
            with pytest.raises(
                SpinetError, match="finds nothing in the collection sentinel-2-l2a for the area 1 1 2 2 in"
            ):
                open_scene(f"{address}/api", collection="sentinel-2-l2a", area=(1, 1, 2, 2), dates="2022")

    def test_servers_that_fail(self, tmp_path):
        (tmp_path / "page.html").write_text("<html>")
        with serve(tmp_path) as (address, _):
            for path, said in (("/absent.json", "the server answers 404"), ("/page.html", "Expecting value")):
                with pytest.raises(SpinetError, match=rf"{address}{path} cannot be read as STAC: .*{said}"):
                    open_scene(address + path)

    def test_a_search_of_pystac_client(self, tmp_path, items, days):
        with serve(tmp_path, items) as (address, _):
            for item in items:
                for asset in item["assets"].values():
                    asset["href"] = asset["href"].replace("./", f"{address}/")
            client = pystac_client.Client.open(f"{address}/api")
            search = client.search(collections=["sentinel-2-l2a"], bbox=lonlat(WEST, NORTH, 20, 10))
            check(open_scene(search).load(), days)


class TestErrors:
    def check(self, path, content, message, **options):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(SpinetError, match=message):
            open_scene(path, **options)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "items.json cannot be read as STAC"),
            ("[" * 100_000, "items.json cannot be read as STAC"),
            ("[]", "Expected a STAC item"),
            ({"type": "Feature"}, "Expected a STAC item"),
            (collection_of([]), "There are no STAC items"),
            (collection_of([1]), "Expected a STAC item"),
        ],
    )
    def test_damaged_files(self, tmp_path, content, message):
        self.check(tmp_path / "items.json", content, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda i: i["assets"].clear(), "item-0 has no bands of Sentinel-2. Its assets: none"),
            (lambda i: [i["assets"].pop(band) for band in BANDS], "Its assets: SCL"),
            (lambda i: i["properties"].update(datetime="x"), "Expected a STAC item"),
            (lambda i: i["properties"].update(datetime=None), "item-0 has no date|Expected a STAC item"),
            (lambda i: i["properties"].update({"proj:epsg": 123456}), "item-0 cannot be used: .*CRS"),
            (lambda i: i["properties"].update({"eo:cloud_cover": "x"}), "item-0 cannot be used"),
            (lambda i: i["assets"]["B02"].update({"proj:transform": "abc"}), "item-0 cannot be used"),
            (lambda i: i["assets"]["B02"].update({"proj:transform": [10, 0, 0, 0, 10, 0]}), "with north up"),
            (lambda i: i["assets"]["B02"].update({"proj:shape": [0, 5]}), "Expected pixels"),
            (lambda i: i["assets"]["B02"].update({"raster:bands": 7}), "item-0 cannot be used"),
        ],
    )
    def test_damaged_items(self, tmp_path, items, change, message):
        change(items[0])
        self.check(tmp_path / "items.json", items[0], message)

    def test_an_asset_without_address(self, items):
        item = pystac.Item.from_dict(items[0])
        item.assets["B05"].href = ""
        with pytest.raises(SpinetError, match="An asset of the STAC item item-0 has no address"):
            open_scene(item)

    def test_catalogues_in_circles(self, tmp_path, items, days):
        path = catalogue(tmp_path, items)
        content = json.loads(path.read_text())
        content["links"] += [
            {"rel": "child", "href": "./catalog.json"},
            {"rel": "child", "href": "./year/catalog.json"},
        ]
        path.write_text(json.dumps(content))
        check(open_scene(path), days)

    def test_a_catalogue_without_items(self, tmp_path):
        head = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "empty", "links": []}
        self.check(tmp_path / "catalog.json", head, "There are no STAC items at")

    def test_what_is_no_source(self):
        for source in (7, [], [1], {"type": "Feature"}, None):
            with pytest.raises(SpinetError, match=r"Expected an EOPatch folder, .* Received: "):
                open_scene(source)
