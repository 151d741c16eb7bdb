"""Folders of GeoTIFFs, named and ordered in many ways."""

import numpy as np
import pytest
import rasterio

from spinet_tf.data import open_scene
from spinet_tf.errors import SpinetError
from tests.data.rasters import IMAGE_SUFFIXES, NORTH, WEST, at_10m, coarse, fine, product, write_raster

BANDS = ("B02", "B03", "B04", "B08")
DAYS = ("2019-04-02", "2019-04-12")


@pytest.fixture
def numbers(rng):
    """(date, band, y, x)"""
    return rng.integers(1, 9000, (2, 4, 12, 14), "uint16")


def opened(folder, numbers, bands=BANDS, days=DAYS, **options):
    scene = open_scene(folder, **options)
    assert scene.band.values.tolist() == list(bands)
    assert scene.time.values.astype("M8[D]").astype(str).tolist() == list(days)
    np.testing.assert_array_equal(scene.bands, numbers)
    return scene


class TestOneFileForEachDate:
    @pytest.mark.parametrize(
        "form", ["{}.tif", "S2_{}_v2.tif", "tiles/T33TWM-{}.TIFF", "{}/all.tif", "S2A_{}T100031_N0211.tif"]
    )
    @pytest.mark.parametrize("separator", ["-", "", "_"])
    def test_dates_in_names(self, tmp_path, numbers, form, separator):
        for day, values in zip(DAYS, numbers, strict=True):
            write_raster(tmp_path / form.format(day.replace("-", separator)), values, names=BANDS)
        scene = opened(tmp_path, numbers)
        assert scene.attrs["name"] == tmp_path.name
        assert scene.valid.values.all()
        assert (scene.rio.crs.to_epsg(), scene.rio.transform()[:6]) == (32633, (10, 0, WEST, 0, -10, NORTH))

    def test_order_of_bands_by_their_descriptions(self, tmp_path, numbers):
        for day, values in zip(DAYS, numbers, strict=True):
            extra = np.concatenate([values[[3, 0]], values[:1] * 0, values[[2, 1]]])
            write_raster(tmp_path / f"{day}.tif", extra, names=("nir", "blue", "AOT", "B4", "band_3"))
        opened(tmp_path, numbers)

    @pytest.mark.parametrize("order", [("B08", "B02", "B04", "B03"), "B08,B02,B04,B03", "nir blue red green"])
    def test_order_of_bands_as_given(self, tmp_path, numbers, order):
        for day, values in zip(DAYS, numbers, strict=True):
            write_raster(tmp_path / f"{day}.tif", values[[3, 0, 2, 1]])
        opened(tmp_path, numbers, band_order=order)

    def test_no_data(self, tmp_path, numbers):
        numbers = numbers.astype("int16")
        numbers[0, :, :2] = -9999
        numbers[1, 0, 5, 5] = -9999
        for day, values in zip(DAYS, numbers, strict=True):
            write_raster(tmp_path / f"{day}.tif", values, names=BANDS, nodata=-9999)
        scene = opened(tmp_path, np.where(numbers == -9999, 0, numbers))
        expected = np.ones((2, 12, 14), bool)
        expected[0, :2] = False
        np.testing.assert_array_equal(scene.valid, expected)

    def test_masks_in_bands_and_in_files(self, tmp_path, numbers, rng):
        classes = rng.integers(0, 12, (2, 12, 14), "uint16")
        usable = rng.integers(0, 2, (2, 6, 7), "uint8")
        for n, day in enumerate(DAYS):
            write_raster(
                tmp_path / f"S2_{day}.tif", np.concatenate([numbers[n], classes[n : n + 1]]), names=(*BANDS, "SCL")
            )
            # Named in another way than the image, so only the date tells what it belongs to.
            write_raster(tmp_path / f"mask/{day}-valid.tif", usable[n], resolution=20.0)
        scene = opened(tmp_path, numbers)
        expected = np.isin(classes, (4, 5, 6, 7)) & (usable.repeat(2, axis=1).repeat(2, axis=2) == 1)
        np.testing.assert_array_equal(scene.valid, expected)

    def test_s2cloudless(self, tmp_path, numbers):
        clouds = np.array([0, 1, 255], "uint16")[np.arange(12 * 14).reshape(12, 14) % 3]
        write_raster(tmp_path / f"{DAYS[0]}.tif", np.stack([*numbers[0], clouds]), names=(*BANDS, "CLM"))
        scene = opened(tmp_path, numbers[:1], days=DAYS[:1])
        np.testing.assert_array_equal(scene.valid[0], clouds == 0)

    def test_reflectance(self, tmp_path, numbers):
        for day, values in zip(DAYS, numbers, strict=True):
            write_raster(tmp_path / f"{day}.tif", values.astype("float32") / 10000, names=BANDS, nodata=np.nan)
        opened(tmp_path, numbers)

    def test_scale_and_offset_of_the_file(self, tmp_path, numbers):
        for day, values in zip(DAYS, numbers, strict=True):
            path = write_raster(tmp_path / f"{day}.tif", values + np.uint16(1000), names=BANDS)
            with rasterio.open(path, "r+") as target:
                target.scales, target.offsets = [1e-4] * 4, [-0.1] * 4
        opened(tmp_path, numbers)
        opened(tmp_path, numbers + 1000, offset=0)
        opened(tmp_path, numbers + 990, offset=-10)

    def test_a_single_file(self, tmp_path, numbers):
        path = write_raster(tmp_path / "summer.tif", numbers[0], names=BANDS)
        scene = open_scene(path)
        np.testing.assert_array_equal(scene.bands, numbers[:1])
        assert "time" not in scene.coords
        assert scene.attrs["name"] == "summer"
        opened(write_raster(tmp_path / f"{DAYS[0]}.tif", numbers[0], names=BANDS), numbers[:1], days=DAYS[:1])


class TestOneFileForEachBand:
    @pytest.mark.parametrize(
        "form", ["S2_{day}_{band}.tif", "{day}/{band}.tif", "{band}/{day}.tif", "{band}-{day}-x.tif"]
    )
    def test_bands_in_names(self, tmp_path, numbers, form):
        for day, values in zip(DAYS, numbers, strict=True):
            for band, image in zip(BANDS, values, strict=True):
                write_raster(tmp_path / form.format(day=day, band=band), image)
        scene = opened(tmp_path, numbers)
        assert scene.bands.data.chunksize[1] == 1

    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    def test_names_and_resolutions_of_sentinel_2(self, tmp_path, rng, suffix):
        """Files as they are in a product, each band also at resolutions that are not its own, and pictures."""
        bands = product(rng)
        stem = "T33TWM_20190402T100031"
        for band, values in bands.items():
            own = 36 * 10 // len(values)
            for resolution in (10, 20, 60):
                if resolution >= own:
                    image = values if resolution == own else coarse(values, resolution // own) // 2
                    path = tmp_path / f"R{resolution}m" / f"{stem}_{band}_{resolution}m{suffix}"
                    write_raster(path, image, resolution=float(resolution))
        write_raster(tmp_path / "R10m" / f"{stem}_TCI_10m{suffix}", np.ones((3, 36, 36), "uint8"))
        expected = at_10m(bands)
        classes = expected.pop("SCL")
        order = sorted(expected, key=lambda band: band.replace("B8A", "B08A"))
        scene = opened(tmp_path, [[expected[band] for band in order]], order, DAYS[:1])
        np.testing.assert_array_equal(scene.valid[0], np.isin(classes, (4, 5, 6, 7)))
        assert str(scene.time.values[0])[:19] == "2019-04-02T10:00:31"

    def test_bands_by_description(self, tmp_path, numbers):
        for n, (band, image) in enumerate(zip(BANDS, numbers[0], strict=True)):
            write_raster(tmp_path / f"{DAYS[0]}_{n}x.tif", image, names=(band,))
        opened(tmp_path, numbers[:1], days=DAYS[:1])

    def test_bands_in_files_of_other_names(self, tmp_path, numbers):
        write_raster(tmp_path / f"{DAYS[0]}_visible.tif", numbers[0, :3], names=BANDS[:3])
        infrared = coarse(numbers[0, 3:], 2)
        write_raster(tmp_path / f"{DAYS[0]}_infrared.tif", infrared, names=("nir",), resolution=20.0)
        expected = np.concatenate([numbers[0, :3], fine(infrared, 2, (12, 14))])
        opened(tmp_path, expected[None], days=DAYS[:1])

    def test_other_bands_at_another_place_are_another_image(self, tmp_path, numbers):
        write_raster(tmp_path / f"{DAYS[0]}_west.tif", numbers[0, :3], names=BANDS[:3])
        write_raster(tmp_path / f"{DAYS[0]}_east.tif", numbers[0, 3:], west=WEST + 300, names=("nir",))
        with pytest.warns(UserWarning, match=r"is left out: it lacks B0"):
            assert open_scene(tmp_path).sizes["x"] == 14


class TestPattern:
    def test_chooses_files_and_reads_names(self, tmp_path, numbers):
        for day, values in zip(DAYS, numbers, strict=True):
            for band, image in zip(BANDS, values, strict=True):
                write_raster(tmp_path / f"20180101_{day}_{band}_final.tif", image)
                write_raster(tmp_path / f"20180101_{day}_{band}_draft.tif", image // 2)
        opened(tmp_path, numbers, pattern="20180101_{date}_{band}_final.tif")
        opened(tmp_path, numbers, pattern="*_{date}_{band}_final.*")

    def test_paths(self, tmp_path, numbers):
        for day, values in zip(DAYS, numbers, strict=True):
            write_raster(tmp_path / "final" / day / "image.tif", values, names=BANDS)
            write_raster(tmp_path / "draft" / day / "image.tif", values // 2, names=BANDS)
        opened(tmp_path, numbers, pattern="final/{date}/*")

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("{band}.tif", r"Expected \{date\} once, .* in the pattern"),
            ("{date}_{band}.tif", "No file in .* is named like .* The first of 1 is S2_2019-04-02.tif"),
            ("{date}{date}", r"Received: .\{date\}\{date\}"),
        ],
    )
    def test_that_do_not_fit(self, tmp_path, numbers, pattern, message):
        write_raster(tmp_path / f"S2_{DAYS[0]}.tif", numbers[0], names=BANDS)
        with pytest.raises(SpinetError, match=message):
            open_scene(tmp_path, pattern=pattern)


@pytest.mark.parametrize("form", ["T33T{}_20190402.tif", "T33T{}/20190402.tif"])
@pytest.mark.parametrize("pattern", [None, "*{date}.tif"])
def test_two_tiles_of_one_day(tmp_path, numbers, form, pattern):
    write_raster(tmp_path / form.format("WM"), numbers[0], names=BANDS)
    write_raster(tmp_path / form.format("WN"), numbers[1], west=WEST + 140, names=BANDS)
    opened(tmp_path, np.concatenate(numbers, axis=2)[None], days=DAYS[:1], pattern=pattern)


class TestErrors:
    def check(self, folder, message, **options):
        with pytest.raises(SpinetError, match=message):
            open_scene(folder, **options)

    def test_unknown_bands(self, tmp_path, numbers):
        path = write_raster(tmp_path / f"{DAYS[0]}.tif", numbers[0])
        self.check(
            tmp_path, "2019-04-02.tif holds is unknown: neither descriptions of its 4 bands nor an order says it"
        )
        self.check(tmp_path, "Expected 3 bands, B02 B03 B04, in .* Received: 4", band_order="B02,B03,B04")
        self.check(tmp_path, "Expected bands of Sentinel-2, each once, .* Received: ", band_order="B02,B03,B04,B02")
        self.check(tmp_path, r"Received: \['B02', 'ndvi'\]", band_order="B02,ndvi")
        write_raster(path, numbers[0], names=("B02", "B02", "B03", "B04"))
        self.check(tmp_path, "is unknown")
        write_raster(path, numbers[0, 0])
        self.check(tmp_path, "is unknown: neither its name")

    def test_no_date(self, tmp_path, numbers):
        write_raster(tmp_path / "a.tif", numbers[0], names=BANDS)
        write_raster(tmp_path / f"{DAYS[0]}.tif", numbers[0], names=BANDS)
        self.check(tmp_path, r"No date in the name of .*a\.tif\. Give the pattern")
        (tmp_path / "a.tif").rename(tmp_path / "20191301.tif")
        self.check(tmp_path, "20191301, in the name of .* is no date")

    def test_only_masks(self, tmp_path):
        write_raster(tmp_path / f"{DAYS[0]}_SCL.tif", np.ones((4, 4), "uint8"))
        self.check(tmp_path, "There are only masks")

    def test_complex_numbers(self, tmp_path):
        write_raster(tmp_path / f"{DAYS[0]}_B02.tif", np.ones((4, 4), "complex64"))
        self.check(tmp_path, "Expected whole or real numbers in .*complex64")

    @pytest.mark.filterwarnings("error")
    def test_no_crs(self, tmp_path, numbers):
        write_raster(tmp_path / f"{DAYS[0]}.tif", numbers[0], names=BANDS, crs=None)
        self.check(tmp_path, "has no coordinate reference system")

    def test_options_of_other_sources(self, tmp_path, numbers):
        write_raster(tmp_path / f"{DAYS[0]}.tif", numbers[0], names=BANDS)
        self.check(
            tmp_path, "The option max_cloud is for cube, SAFE, STAC, STAC API. The source is GeoTIFF", max_cloud=0.5
        )
        self.check(tmp_path, "Expected a resolution above 0", resolution=-10)
        self.check(tmp_path, "Expected an offset such as -1000", offset=np.nan)
