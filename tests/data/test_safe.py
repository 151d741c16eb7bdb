"""Sentinel-2 products, with the offsets of their own metadata."""

import numpy as np
import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data import open_scene
from spinet_tf.errors import SpinetError
from tests.data.products import metadata, write_product
from tests.data.rasters import IMAGE_SUFFIXES, WEST, at_10m, product


@pytest.fixture
def bands(rng):
    return product(rng)


def numbers(bands, offset):
    """(band, y, x): what the scene should hold."""
    values = np.stack([at_10m(bands)[band] for band in BANDS]).astype(int)
    return np.where(values == 0, 0, (values + offset).clip(1))


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_a_product(tmp_path, bands, suffix):
    bands["B08"][:3] = 0
    bands["B11"][2, 2] = 1000
    path = write_product(tmp_path, bands, suffix)
    scene = open_scene(path)
    assert scene.band.values.tolist() == list(BANDS)
    np.testing.assert_array_equal(scene.bands[0], numbers(bands, -1000))
    np.testing.assert_array_equal(scene.valid[0], np.isin(at_10m(bands)["SCL"], (4, 5, 6, 7)))
    assert scene.bands.values[0, 10, 4, 4] == 1
    assert str(scene.time.values[0]) == "2022-04-02T10:00:31.024000000"
    assert scene.attrs["name"] == path.name
    assert scene.rio.crs.to_epsg() == 32633


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (metadata(baseline="02.14", offsets=None), 0),
        (metadata(baseline="05.00", offsets=(-1000,) * 13, time="2018-07-01T10:00:31.024Z"), -1000),
        (metadata(baseline="05.00", offsets=(0,) * 13), 0),
    ],
)
def test_offsets_are_those_of_the_product_whatever_its_date(tmp_path, bands, text, offset):
    np.testing.assert_array_equal(
        open_scene(write_product(tmp_path, bands, text=text)).bands[0], numbers(bands, offset)
    )


def test_offsets_of_each_band(tmp_path, bands):
    offsets = tuple(range(-10, -140, -10))
    scene = open_scene(write_product(tmp_path, bands, text=metadata(offsets=offsets)))
    # B10, number 10, is not in Level-2A products.
    np.testing.assert_array_equal(scene.bands[0], numbers(bands, np.delete(offsets, 10)[:, None, None]))


def test_numbers_of_bands_are_those_of_the_metadata(tmp_path, bands):
    """Here B2 is number 0 and B1 number 1."""
    text = metadata(offsets=tuple(range(-10, -140, -10)))
    text = (
        text.replace('bandId="0"', 'bandId="x"').replace('bandId="1"', 'bandId="0"').replace('bandId="x"', 'bandId="1"')
    )
    offsets = np.delete(np.arange(-10, -140, -10), 10)
    offsets[:2] = offsets[1::-1]
    scene = open_scene(write_product(tmp_path, bands, text=text))
    np.testing.assert_array_equal(scene.bands[0], numbers(bands, offsets[:, None, None]))


def test_offset_as_given(tmp_path, bands):
    path = write_product(tmp_path, bands, text=metadata(offsets=None))
    np.testing.assert_array_equal(open_scene(path, offset=-300).bands[0], numbers(bands, -300))


def test_quantification(tmp_path, bands):
    scene = open_scene(write_product(tmp_path, bands, text=metadata(quantification="20000", offsets=(-100,) * 13)))
    values = np.stack([at_10m(bands)[band] for band in BANDS]).astype(int)
    np.testing.assert_array_equal(scene.bands[0], np.rint((values - 100) / 2).clip(1))


def test_a_folder_of_products(tmp_path, rng):
    """Two tiles of a day, processed at different times, and another day."""
    days = [product(rng, classes=(4, 5)) for _ in range(3)]
    write_product(tmp_path, days[0])
    write_product(
        tmp_path,
        days[1],
        tile="T33TWN",
        baseline="0301",
        west=WEST + 360,
        text=metadata(baseline="03.01", offsets=None),
    )
    write_product(tmp_path, days[2], day="20220412T100031", text=metadata(time="2022-04-12T10:00:31.024Z", cloud=80))
    scene = open_scene(tmp_path)
    assert scene.sizes == {"time": 2, "band": 12, "y": 36, "x": 72}
    np.testing.assert_array_equal(scene.bands[0, :, :, :36], numbers(days[0], -1000))
    np.testing.assert_array_equal(scene.bands[0, :, :, 36:], numbers(days[1], 0))
    np.testing.assert_array_equal(scene.bands[1, :, :, :36], numbers(days[2], -1000))
    assert not scene.bands[1, :, :, 36:].any()
    assert not scene.valid[1, :, 36:].any()
    assert open_scene(tmp_path, max_cloud=0.5).sizes["time"] == 1
    assert open_scene(tmp_path, dates="2022-04-12").sizes["time"] == 1


def test_bands_at_their_own_resolution(tmp_path, bands):
    """Newer products have B01 at 20 m too."""
    path = write_product(tmp_path, bands)
    images = next(path.glob("GRANULE/*/IMG_DATA"))
    write_product(tmp_path / "other", {"B02": bands["B02"], "B01": bands["B05"]})
    extra = next((tmp_path / "other").rglob("*_B01_20m.tif"))
    extra.rename(images / "R20m" / extra.name)
    np.testing.assert_array_equal(open_scene(path).bands[0], numbers(bands, -1000))


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "MTD_MSIL2A.xml cannot be read: no element found"),
            (metadata()[:-300], r"MTD_MSIL2A\.xml cannot be read: "),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + "<a>&b;</a>", "declares a document type"),
            (metadata().replace('"UTF-8"', '"UTF-99"'), "cannot be read"),
            (metadata(time="yesterday"), "Expected a moment as PRODUCT_START_TIME in .* Received: 'yesterday'"),
            (metadata(time="2022-13-02T10:00:31Z"), "is no date"),
            (metadata(offsets=None), r"Expected BOA_ADD_OFFSET in .* baseline is 4\.0\. Give the offset"),
            (metadata(offsets=(-1000,) * 9), "Expected BOA_ADD_OFFSET of every band .* B09, B11, B12 have none"),
            (metadata(offsets=("x",) * 13), "Expected a number as BOA_ADD_OFFSET .* Received: 'x'"),
            (metadata(quantification="0"), "BOA_QUANTIFICATION_VALUE above 0"),
            (metadata(quantification="nan"), "Expected a number as BOA_QUANTIFICATION_VALUE"),
        ],
    )
    def test_damaged_metadata(self, tmp_path, bands, text, message):
        path = write_product(tmp_path, {"B02": bands["B02"]}, text=text)
        with pytest.raises(SpinetError, match=message):
            open_scene(path)

    def test_missing_parts(self, tmp_path, bands):
        path = write_product(tmp_path, {"SCL": bands["B02"].astype("uint8")})
        with pytest.raises(SpinetError, match=r"Expected images of bands in .*GRANULE"):
            open_scene(path)
        (path / "MTD_MSIL2A.xml").unlink()
        with pytest.raises(SpinetError, match="It is not a whole product"):
            open_scene(path)
        (path / "MTD_MSIL1C.xml").touch()
        with pytest.raises(SpinetError, match="It is Level-1C"):
            open_scene(tmp_path)

    def test_a_broken_image_is_named_when_it_is_read(self, tmp_path, bands):
        path = write_product(tmp_path, bands)
        broken = next(path.rglob("*_B04_10m.tif"))
        broken.write_bytes(broken.read_bytes()[:200])
        scene = open_scene(path)
        with pytest.raises(SpinetError, match=r"_B04_10m\.tif cannot be read: .*rows 3 to 5, columns 7 to 8"):
            scene.isel(y=slice(3, 6), x=slice(7, 9)).bands.load()
