"""Images of many dates and tiles as one scene."""

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from spinet_tf.data.area import read_area, read_dates
from spinet_tf.data.mosaic import Image, open_images
from spinet_tf.data.raster import Layer, Placement
from spinet_tf.errors import SpinetError
from tests.data.rasters import NORTH, WEST, fine, lonlat, write_raster

UTM = CRS.from_epsg(32633)


@pytest.fixture
def make(tmp_path, rng):
    """A function that writes an image with a scene classification at 20 m, and gives it with its values."""

    def make(
        time, west=WEST, north=NORTH, size=12, crs=UTM, name=None, shift=0.0, scl=True, bands=("B04", "B08"), **more
    ):
        name = name or f"image-{len(list(tmp_path.iterdir()))}"
        numbers = rng.integers(1001, 9000, (len(bands), size, size), "uint16")
        classes = rng.choice(np.array([0, 4, 5, 8, 9], "uint8"), (size // 2, size // 2))
        layers = {}
        for band, values in zip(bands, numbers, strict=True):
            path = write_raster(tmp_path / f"{name}_{band}.tif", values, west=west, north=north, crs=crs)
            layers[band] = Layer(str(path), 1, None, shift)
        path = write_raster(tmp_path / f"{name}_SCL.tif", classes, resolution=20.0, west=west, north=north, crs=crs)
        image = Image(
            name=name,
            time=None if time is None else np.datetime64(time, "ms"),
            placement=Placement(crs, Affine(10, 0, west, 0, -10, north), size, size),
            bands=layers,
            masks={"SCL": Layer(str(path))} if scl else {},
            **more,
        )
        return image, numbers, fine(classes, 2, (size, size))

    return make


def test_dates_in_order(make):
    (late, late_numbers, late_classes), (early, early_numbers, early_classes) = make("2019-05-02"), make("2019-04-02")
    scene = open_images([late, early], "place")
    np.testing.assert_array_equal(scene.bands, [early_numbers, late_numbers])
    np.testing.assert_array_equal(scene.valid, np.isin([early_classes, late_classes], (4, 5)))
    assert scene.band.values.tolist() == ["B04", "B08"]
    assert scene.time.values.astype("M8[D]").astype(str).tolist() == ["2019-04-02", "2019-05-02"]
    assert (scene.rio.crs.to_epsg(), scene.rio.transform()[:6]) == (32633, (10, 0, WEST, 0, -10, NORTH))
    assert scene.attrs == {"name": "place"}
    assert {name: variable.dtype.name for name, variable in scene.data_vars.items()} == {
        "bands": "uint16",
        "valid": "bool",
    }


def test_offsets_belong_to_images_not_to_the_stack(make):
    """Two tiles of one day with different offsets, by the processing that each had."""
    (left, left_numbers, _), (right, right_numbers, _) = (
        make("2022-04-02T10:00:00", shift=-1000.0, scl=False),
        make("2022-04-02T10:00:07", west=WEST + 120, scl=False),
    )
    scene = open_images([left, right], "place")
    assert scene.sizes == {"time": 1, "band": 2, "y": 12, "x": 24}
    np.testing.assert_array_equal(scene.bands[0, :, :, :12], left_numbers - 1000)
    np.testing.assert_array_equal(scene.bands[0, :, :, 12:], right_numbers)
    assert scene.valid.values.all()


def test_where_images_of_a_day_overlap_clear_ground_wins(make):
    first, second = (
        make("2022-04-02T10:00:00"),
        make("2022-04-02T10:00:07", west=WEST + 40, north=NORTH - 20, shift=-1000.0),
    )
    scene = open_images([second[0], first[0]], "place").load()
    assert scene.sizes == {"time": 1, "band": 2, "y": 14, "x": 16}

    def on_grid(image, west, north, values):
        out = np.zeros((*values.shape[:-2], 14, 16), values.dtype)
        row, column = round((NORTH - north) / 10), round((west - WEST) / 10)
        out[..., row : row + 12, column : column + 12] = values
        return out

    numbers = [on_grid(None, WEST, NORTH, first[1]), on_grid(None, WEST + 40, NORTH - 20, second[1] - 1000)]
    classes = [on_grid(None, WEST, NORTH, first[2]), on_grid(None, WEST + 40, NORTH - 20, second[2])]
    expected = np.zeros((2, 14, 16), "uint16")
    for row in range(14):
        for column in range(16):
            clear = [n for n in (0, 1) if classes[n][row, column] in (4, 5)]
            data = [n for n in (0, 1) if classes[n][row, column] != 0]
            chosen = (clear or data or [0])[0]
            expected[:, row, column] = numbers[chosen][:, row, column]
    np.testing.assert_array_equal(scene.bands[0], expected)
    np.testing.assert_array_equal(scene.valid[0], np.isin(classes, (4, 5)).any(axis=0))


@pytest.mark.parametrize(
    ("times", "west", "crs", "days"),
    [
        (("2022-04-02T10:00", "2022-04-02T10:05"), WEST, 32633, 1),
        (("2022-04-02T23:50", "2022-04-03T00:10"), 500000.0, 32660, 1),  # New Zealand: noon of the next day
        (("2022-04-02T10:00", "2022-04-02T13:30"), 500000.0, 32660, 2),  # midnight there
    ],
)
def test_days_are_those_of_the_sun(make, times, west, crs, days):
    images = [make(time, west=west, crs=CRS.from_epsg(crs), scl=False)[0] for time in times]
    assert open_images(images, "place").sizes["time"] == days


def test_dates_without_an_hour_are_not_shifted(make):
    images = [make("2022-04-02T00:00", crs=CRS.from_epsg(32610), whole_day=True, scl=False)[0] for _ in range(2)]
    morning = make("2022-04-02T18:00", crs=CRS.from_epsg(32610), scl=False)[0]
    assert open_images([*images, morning], "place").sizes["time"] == 1


def test_windows_are_read_alone(make, monkeypatch):
    """Nothing but the part of the file that a window needs is asked of it."""
    image, numbers, classes = make("2022-04-02", size=1500)
    scene = open_images([image], "place")
    assert scene.bands.data.chunksize == (1, 1, 1024, 1024)
    read = []
    actual = rasterio.vrt.WarpedVRT.read

    def spy(vrt, *args, **kwargs):
        read.append((vrt.height, vrt.width))
        return actual(vrt, *args, **kwargs)

    monkeypatch.setattr("rasterio.vrt.WarpedVRT.read", spy, raising=False)
    window = scene.isel(y=slice(100, 130), x=slice(1000, 1040))
    np.testing.assert_array_equal(window.bands[0], numbers[:, 100:130, 1000:1040])
    np.testing.assert_array_equal(window.valid[0], np.isin(classes[100:130, 1000:1040], (4, 5)))
    assert sorted(set(read)) == [(30, 16), (30, 24)]


def test_chunks_fit_the_tiles_of_the_files(make):
    image = make("2022-04-02", size=2200, scl=False)[0]
    scene = open_images([image], "place", read_area(lonlat(WEST + 3000, NORTH - 5000, 1500, 1400)))
    row, column = round((NORTH - scene.y.values[0]) / 10 - 0.5), round((scene.x.values[0] - WEST) / 10 - 0.5)
    assert 490 < row < 500
    assert 290 < column <= 300
    for offset, chunks in ((row, scene.bands.chunks[2]), (column, scene.bands.chunks[3])):
        assert chunks[0] == 1024 - offset
        assert chunks[1] == 1024 or len(chunks) == 2


def test_the_most_common_crs_and_grid_win(make):
    ours = [make(f"2022-04-0{day}", west=WEST + 5, north=NORTH + 3)[0] for day in (1, 2)]
    west, north = rasterio.warp.transform(UTM, CRS.from_epsg(32632), [WEST + 5], [NORTH + 3])
    other = make("2022-04-03", west=west[0], north=north[0], crs=CRS.from_epsg(32632), scl=False)[0]
    other = Image(**{**vars(other), "masks": ours[0].masks})
    scene = open_images([other, *ours], "place")
    assert scene.rio.crs.to_epsg() == 32633
    assert (scene.rio.transform().c - WEST) % 10 == 5
    assert (scene.rio.transform().f - NORTH) % 10 == 3
    assert (scene.bands[2].values > 0).mean() > 0.3


def test_resolution(make):
    image, numbers, _ = make("2022-04-02", scl=False)
    scene = open_images([image], "place", resolution=30.0)
    np.testing.assert_array_equal(scene.bands[0], numbers[:, 1::3, 1::3])
    assert scene.rio.resolution() == (30, -30)


def test_area_and_dates_choose_images(make):
    images = [make(f"2022-04-0{day}", west=WEST + 200 * day)[0] for day in (1, 2, 3)]
    area = read_area(lonlat(WEST + 401, NORTH - 1, 8, 8))
    scene = open_images(images, "place", area, read_dates("2022-04"))
    assert scene.time.values.astype("M8[D]").astype(str).tolist() == ["2022-04-02"]
    assert scene.rio.bounds()[::3] == (WEST + 400, NORTH)
    scene = open_images(images, "place", None, read_dates("2022-04-02/.."))
    assert scene.sizes["time"] == 2
    with pytest.raises(SpinetError, match="No date of place lies in 2023"):
        open_images(images, "place", None, read_dates("2023"))
    with pytest.raises(SpinetError, match="The area lies outside of place"):
        open_images(images, "place", read_area((10, 46, 10.1, 46.1)))
    with pytest.raises(SpinetError, match="The area lies outside of the images of place"):
        open_images([images[0], images[2]], "place", area)


def test_clouds(make):
    images = [make(f"2022-04-0{day}", cloud=day / 10)[0] for day in (1, 2, 3)]
    assert open_images(images, "place", max_cloud=0.2).sizes["time"] == 2
    with pytest.raises(SpinetError, match="No image of place has at most 5% cloud: the least is 10%"):
        open_images(images, "place", max_cloud=0.05)
    with pytest.raises(SpinetError, match="image-9 does not say how cloudy"):
        open_images([*images, make("2022-04-05")[0]], "place", max_cloud=0.2)


def test_images_without_some_band_are_left_out(make):
    images = [make(f"2022-04-0{day}")[0] for day in (1, 2)]
    lacking = make("2022-04-03", name="lacking", bands=("B08",))[0]
    with pytest.warns(UserWarning, match="lacking is left out: it lacks B04"):
        scene = open_images([lacking, *images], "place")
    assert scene.sizes["time"] == 2
    # Of two kinds equally common, the bands that all have.
    richer = [make(f"2022-05-0{day}", bands=("B04", "B08", "B11"))[0] for day in (1, 2)]
    assert open_images([*richer, *images], "place").band.values.tolist() == ["B04", "B08"]


def test_dates_that_nobody_knows(make):
    image = make(None)[0]
    scene = open_images([image], "place")
    assert "time" not in scene.coords
    assert scene.sizes["time"] == 1
    with pytest.raises(SpinetError, match="place has no dates"):
        open_images([image], "place", dates=read_dates("2022"))
    with pytest.raises(SpinetError, match="image-0 has no date"):
        open_images([image, make("2022-04-02")[0]], "place")


def test_images_too_far_apart(make):
    images = [make("2022-04-02")[0], make("2022-04-02", west=WEST + 1e8)[0]]
    with pytest.raises(SpinetError, match=r"place would have 12 x 1e\+07 pixels: its images lie too far apart"):
        open_images(images, "place")


def test_a_file_that_is_gone_when_a_window_is_read(make, tmp_path):
    image = make("2022-04-02", name="gone", size=60)[0]
    scene = open_images([image], "place")
    (tmp_path / "gone_B08.tif").unlink()
    scene.bands[:, :1].load()
    with pytest.raises(
        SpinetError, match=r"There is no file .*gone_B08\.tif\. \(Needed at rows 20 to 29, columns 3 to 8"
    ):
        scene.isel(y=slice(20, 30), x=slice(3, 9)).bands.load()


def test_saved_and_opened_again(make, tmp_path):
    from spinet_tf.data import open_scene

    scene = open_images([make("2022-04-02")[0]], "place")
    scene.to_netcdf(tmp_path / "place.nc", engine="h5netcdf")
    xr.testing.assert_equal(open_scene(tmp_path / "place.nc").load(), scene.load())
