"""Windows of files on a grid, and what becomes of their numbers."""

import os
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from spinet_tf.data.raster import (
    Layer,
    Placement,
    checked_placement,
    open_raster,
    read_classes,
    read_numbers,
    read_placement,
    to_numbers,
)
from spinet_tf.errors import SpinetError
from tests.data.rasters import IMAGE_SUFFIXES, NORTH, WEST, fine, write_raster

UTM = CRS.from_epsg(32633)


def grid(height, width, resolution=10.0, west=WEST, north=NORTH):
    return Placement(UTM, Affine(resolution, 0, west, 0, -resolution, north), width, height)


@pytest.fixture
def values(rng):
    values = rng.integers(1, 9999, (3, 12, 15), "uint16")
    values[:, 4, 5] = 0
    return values


def layers(path, count=3, **options):
    return [Layer(str(path), number, **options) for number in range(1, count + 1)]


class TestNumbers:
    @pytest.mark.parametrize("options", [{}, {"nodata": 0}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
    def test_windows_beyond_the_file_are_no_data(self, tmp_path, values, options):
        path = write_raster(tmp_path / "a.tif", values, **options)
        expected = np.pad(values, ((0, 0), (2, 3), (1, 4)))[:, 1:14, :18]
        window = grid(100, 100, west=WEST - 10, north=NORTH + 20).window(slice(1, 14), slice(0, 18))
        np.testing.assert_array_equal(read_numbers(layers(path), window), expected)

    def test_order_and_files_as_asked(self, tmp_path, values):
        path = write_raster(tmp_path / "a.tif", values)
        other = write_raster(tmp_path / "b.tif", values[::-1] // 2)
        chosen = [Layer(str(path), 3), Layer(str(other), 1), Layer(str(path), 1)]
        found = read_numbers(chosen, grid(12, 15))
        np.testing.assert_array_equal(found, [values[2], values[2] // 2, values[0]])
        assert found.dtype == "uint16"

    @pytest.mark.parametrize("resolution", [20, 60])
    def test_coarse_bands_are_repeated(self, tmp_path, values, resolution):
        path = write_raster(tmp_path / "a.tif", values, resolution=float(resolution))
        expected = fine(values, resolution // 10, (70, 85))
        np.testing.assert_array_equal(read_numbers(layers(path), grid(70, 85))[:, :23, :29], expected[:, :23, :29])

    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    def test_formats(self, tmp_path, values, suffix):
        path = write_raster(tmp_path / f"a{suffix}", values[:1])
        np.testing.assert_array_equal(read_numbers(layers(path, 1), grid(12, 15)), values[:1])

    def test_another_utm_zone(self, tmp_path):
        """Each pixel of a gradient is found where its coordinates are, to half a pixel."""
        x, y = np.meshgrid(np.arange(400), np.arange(400))
        path = write_raster(tmp_path / "a.tif", np.stack([1000 + x, 1000 + y]).astype("uint16"), west=300000.0)
        (left,), (top,) = rasterio.warp.transform(UTM, CRS.from_epsg(32632), [302000], [NORTH - 2000])
        window = Placement(CRS.from_epsg(32632), Affine(10, 0, left, 0, -10, top), 30, 20)
        found = read_numbers(layers(path, 2), window).astype(int)
        east, north = rasterio.warp.transform(
            window.crs, UTM, [window.transform.c + 10 * c + 5 for c in range(30)], [window.transform.f - 5] * 30
        )
        np.testing.assert_allclose(found[0, 0] - 1000, (np.array(east) - 300000) / 10 - 0.5, atol=0.51)
        np.testing.assert_allclose(found[1, 0] - 1000, (NORTH - np.array(north)) / 10 - 0.5, atol=0.51)

    def test_nodata_and_masks_become_0(self, tmp_path, values):
        path = write_raster(tmp_path / "a.tif", values.astype("int32"), nodata=int(values[1, 2, 3]))
        expected = np.where(values == values[1, 2, 3], 0, values)
        np.testing.assert_array_equal(read_numbers(layers(path), grid(12, 15)), expected)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            path = write_raster(tmp_path / "b.tif", values)
            with rasterio.open(path, "r+") as target:
                target.write_mask(np.arange(12)[:, None] * np.ones(15) > 3)
        np.testing.assert_array_equal(read_numbers(layers(path), grid(12, 15)), values * (np.arange(12)[:, None] > 3))

    def test_offsets_never_make_data_nodata(self, tmp_path):
        values = np.array([[0, 1, 999, 1000, 1001, 5000, 65535]], "uint16")
        path = write_raster(tmp_path / "a.tif", values)
        found = read_numbers([Layer(str(path), 1, None, -1000.0)], grid(1, 7))
        np.testing.assert_array_equal(found, [[[0, 1, 1, 1, 1, 4000, 64535]]])


class TestToNumbers:
    def test_reflectance(self):
        values = np.array([0, np.nan, 0.1234, 1.5, -0.01, 1e-9], "float32")
        assert to_numbers(values, None, 0.0).tolist() == [0, 0, 1234, 15000, 1, 1]
        assert to_numbers(values, None, -1000.0).tolist() == [0, 0, 234, 14000, 1, 1]
        assert to_numbers(values, None, -1000.0, -1000.0).tolist() == [0, 0, 1234, 15000, 1, 1]

    @pytest.mark.parametrize(
        ("values", "numbers"),
        [
            ([np.nan, 3, 7, 0], [0, 3, 7, 0]),  # whole
            ([0.5, 2000.25, np.nan], [1, 2000, 0]),  # larger than any reflectance
            ([1, 1, 0], [10000, 10000, 0]),  # reflectance that was cut at 1
            ([np.inf, 5], [65535, 5]),
            ([np.nan, 0], [0, 0]),
        ],
    )
    def test_digital_numbers_in_floats(self, values, numbers):
        found = to_numbers(np.array(values, "float32"), None, 0.0)
        assert found.tolist() == numbers
        assert found.dtype == "uint16"

    def test_gain_and_shift(self):
        assert to_numbers(np.array([0, 100, 400], "int16"), 25.0, -50.0).tolist() == [0, 2450, 9950]
        assert to_numbers(np.array([0.0, 0.5, 7e5]), 100.0, 0.0).tolist() == [0, 50, 65535]
        assert to_numbers(np.array([-5, 70000], "int32"), None, 0.0).tolist() == [1, 65535]
        shifts = np.array([[0], [-1000]])
        assert to_numbers(np.full((2, 2), 1500, "uint16"), None, shifts).tolist() == [[1500] * 2, [500] * 2]


def test_classes(tmp_path):
    values = np.array([[4, 255], [9, 0]], "uint8")
    path = write_raster(tmp_path / "a.tif", values, resolution=20.0)
    np.testing.assert_array_equal(read_classes(Layer(str(path)), grid(4, 4)), fine(values, 2, (4, 4)))
    path = write_raster(tmp_path / "b.tif", np.array([[4, np.nan]], "float32"))
    np.testing.assert_array_equal(read_classes(Layer(str(path)), grid(1, 3)), [[4, 0, 0]])


class TestPlacement:
    def test_of_a_file(self, tmp_path, values):
        path = write_raster(tmp_path / "a.tif", values, resolution=20.0)
        with open_raster(str(path)) as source:
            found = read_placement(source, "a.tif")
        assert found == grid(12, 15, 20.0)
        assert found.bounds == (WEST, NORTH - 240, WEST + 300, NORTH)
        part = found.window(slice(2, 5), slice(1, 8))
        assert part == grid(3, 7, 20.0, WEST + 20, NORTH - 40)

    def test_equal_crs_are_one(self):
        """Equal ones are counted together, so their hashes have to agree."""
        wordy = CRS.from_wkt(UTM.to_wkt(version="WKT2_2019"))
        assert wordy == UTM
        assert hash(wordy) != hash(UTM)
        assert hash(checked_placement(grid(2, 2)._replace(crs=wordy), "a").crs) == hash(UTM)

    @pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    def test_without_crs(self, tmp_path, values):
        path = write_raster(tmp_path / "a.tif", values, crs=None)
        with (
            open_raster(str(path)) as source,
            pytest.raises(SpinetError, match=r"a\.tif has no coordinate reference system.*gdal_edit"),
        ):
            read_placement(source, str(path))

    @pytest.mark.parametrize(
        "transform",
        [
            Affine(10, 1, 0, 0, -10, 0),
            Affine(10, 0, 0, 0, 10, 0),
            Affine(-10, 0, 0, 0, -10, 0),
            Affine(0, 0, 0, 0, 0, 0),
            Affine(10, 0, np.nan, 0, -10, 0),
            Affine(1e308, 0, 0, 0, -10, 0),
        ],
    )
    def test_not_north_up(self, transform):
        with pytest.raises(SpinetError, match="Expected here with north up"):
            checked_placement(Placement(UTM, transform, 30, 30), "here")

    def test_without_pixels(self):
        with pytest.raises(SpinetError, match=r"Expected pixels in here\. Received: 0 x 5"):
            checked_placement(grid(0, 5), "here")


class TestOpening:
    def test_damaged(self, tmp_path):
        (tmp_path / "a.tif").write_bytes(b"II*\0rubbish")
        with pytest.raises(SpinetError, match=r"a\.tif cannot be read: "), open_raster(str(tmp_path / "a.tif")):
            pass

    def test_truncated(self, tmp_path, rng):
        path = write_raster(tmp_path / "a.tif", rng.integers(1, 9999, (1, 300, 300), "uint16"), tiled=True)
        path.write_bytes(path.read_bytes()[:-50_000])
        np.testing.assert_array_equal(read_numbers(layers(path, 1), grid(10, 10)).shape, (1, 10, 10))
        with pytest.raises(SpinetError, match=r"a\.tif cannot be read: "):
            read_numbers(layers(path, 1), grid(300, 300))

    def test_other_formats_are_refused(self, tmp_path, values):
        """A virtual raster names further files, and may name code."""
        write_raster(tmp_path / "a.tif", values)
        (tmp_path / "b.tif").write_text(
            '<VRTDataset rasterXSize="15" rasterYSize="12"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
            f"<SourceFilename>{tmp_path / 'a.tif'}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(tmp_path / "b.tif") as source:
                assert source.driver == "VRT"
        with (
            pytest.raises(SpinetError, match="not recognized as being in a supported file format"),
            open_raster(str(tmp_path / "b.tif")),
        ):
            pass

    @pytest.mark.parametrize("href", ["absent.tif", "/vsistdin/", "/vsicurl/http://127.0.0.1:9/a.tif", "."])
    def test_what_is_no_file(self, href):
        with pytest.raises(SpinetError, match="There is no file"), open_raster(href):
            pass

    def test_pipes_are_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.tif")
        with pytest.raises(SpinetError, match="There is no file"), open_raster(str(tmp_path / "a.tif")):
            pass

    def test_other_addresses(self):
        with pytest.raises(SpinetError, match=r"http, https, s3, gs, az\. Received: ftp"), open_raster("ftp://a/b.tif"):
            pass
