"""EOPatches of both layouts become the same scene, and broken ones give one clear message."""

import gzip
import json
import os
import pickle
import shutil
import tracemalloc

import dask.array
import numpy as np
import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data import clear_fraction, open_scene
from spinet_tf.errors import SpinetError
from tests.data.conftest import BOTTOM, DATES, FRAMES, HEIGHT, LEFT, PIXEL, WIDTH, write_npy_gz


def check(scene, arrays):
    np.testing.assert_array_equal(scene.bands, arrays["data/BANDS"].transpose(0, 3, 1, 2))
    assert scene.bands.dims == ("time", "band", "y", "x")
    assert scene.bands.dtype == "uint16"
    assert tuple(scene.band.values) == BANDS
    assert scene.valid.dtype == bool
    assert scene.valid.all()
    label = arrays["mask_timeless/CULTIVATED"][..., 0].astype("uint8")
    label[3, 7] = 255
    np.testing.assert_array_equal(scene.label, label)
    assert scene.label.dtype == "uint8"
    np.testing.assert_array_equal(scene.time, np.array(DATES, "datetime64[ns]"))
    assert scene.rio.crs.to_epsg() == 32633
    top = BOTTOM + HEIGHT * PIXEL
    assert scene.rio.transform()[:6] == (PIXEL, 0, LEFT, 0, -PIXEL, top)
    assert scene.rio.bounds() == (LEFT, BOTTOM, LEFT + WIDTH * PIXEL, top)
    assert scene.rio.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(scene.y_label[:2], [top - 1.25, top - 3.75])
    np.testing.assert_array_equal(scene.x_label[:2], [LEFT + 1.25, LEFT + 3.75])
    np.testing.assert_array_equal(clear_fraction(scene), np.ones(FRAMES))


def test_layout_of_2021(write_2021, arrays):
    scene = open_scene(write_2021())
    check(scene, arrays)
    assert scene.attrs == {"name": "eopatch-2021"}


@pytest.mark.parametrize("suffix", [".npy", ".npy.gz", ".zarr"])
def test_layout_of_1x(write_1x, arrays, suffix):
    scene = open_scene(write_1x(suffix))
    check(scene, arrays)
    assert isinstance(scene.bands.data, dask.array.Array) == (suffix == ".zarr")


def test_box_of_sentinelhub_2(write_2021, sentinelhub, arrays):
    folder = write_2021()
    (folder / "bbox.pkl.gz").unlink()
    (folder / "bbox.pkl").write_bytes(sentinelhub("sentinelhub.common", "crs", 2))
    check(open_scene(folder), arrays)


@pytest.mark.parametrize("suffix", [".npy.gz", ".zarr"])
def test_each_mask_makes_pixels_invalid(write_1x, arrays, suffix):
    arrays["mask/IS_DATA"][0, 0, 0] = False
    arrays["mask/CLM"][1, 1, 1] = 1
    arrays["mask/CLM"][1, 1, 2] = 255
    arrays["mask/SCL"][2, 2] = np.array([0, 3, 8, 6, 11])[:, None]
    arrays["data/BANDS"][0, 3, 4] = 0
    arrays["data/BANDS"][0, 3, 3, 1:] = 0
    scene = open_scene(write_1x(suffix))
    expected = np.ones((FRAMES, HEIGHT, WIDTH), bool)
    expected[0, 0, 0] = expected[1, 1, 1] = expected[1, 1, 2] = expected[0, 3, 4] = False
    expected[2, 2] = [False, False, False, True, False]
    np.testing.assert_array_equal(scene.valid, expected)


def test_absent_features_exclude_nothing(write_2021, arrays):
    for name in ("mask/IS_DATA", "mask/CLM", "mask/SCL", "scalar/NORM_FACTORS", "mask_timeless/CULTIVATED"):
        del arrays[name]
    scene = open_scene(write_2021())
    assert scene.valid.all()
    assert "label" not in scene
    assert "y_label" not in scene.dims
    np.testing.assert_array_equal(scene.bands, arrays["data/BANDS"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("suffix", [".npy.gz", ".zarr"])
def test_norm_factors_scale_to_ten_thousandths(write_1x, arrays, suffix):
    arrays["scalar/NORM_FACTORS"][1:] = [[2e-4], [1e-5]]
    arrays["data/BANDS"][:, 0, 0, :4] = [0, 1, 4, 60000]
    scene = open_scene(write_1x(suffix))
    exact = arrays["data/BANDS"].astype("float64") * np.array([1, 2, 0.1])[:, None, None, None]
    expected = np.rint(exact).clip(None, 65535).transpose(0, 3, 1, 2)
    expected[2, 1:3, 0, 0] = 1  # dark, but not without data
    np.testing.assert_array_equal(scene.bands[0], expected[0])
    # Factors are float32, so exact halves may round either way.
    assert abs(scene.bands.astype("float64") - expected).max() <= 1
    np.testing.assert_array_equal(scene.bands[:, :4, 0, 0], [[0, 1, 4, 60000], [0, 2, 8, 65535], [0, 1, 1, 6000]])
    assert scene.bands.dtype == "uint16"


def test_label_on_the_grid_of_the_images(write_2021, arrays):
    for name in ("CULTIVATED", "NOT_DECLARED"):
        arrays[f"mask_timeless/{name}"] = arrays[f"mask_timeless/{name}"][:HEIGHT, :WIDTH]
    scene = open_scene(write_2021())
    assert scene.label.dims == ("y", "x")
    assert scene.label.shape == (HEIGHT, WIDTH)


def test_unread_features_may_be_broken(write_2021, arrays):
    folder = write_2021()
    (folder / "data" / "CLP.npy.gz").write_bytes(b"broken")
    check(open_scene(folder), arrays)


def test_arrays_of_other_byte_order_and_layout(write_2021, arrays):
    content = dict(arrays)
    arrays["data/BANDS"] = np.asfortranarray(arrays["data/BANDS"].astype(">u2"))
    scene = open_scene(write_2021())
    check(scene, content)
    assert scene.bands.dtype.isnative
    assert scene.bands.data.flags.writeable


class TestWithoutMetadata:
    """A patch is of use without its dates or its place."""

    def opened(self, folder, arrays, match):
        with pytest.warns(UserWarning, match=match) as caught:
            scene = open_scene(folder)
        assert caught[0].filename == __file__
        assert str(folder) in str(caught[0].message)
        np.testing.assert_array_equal(scene.bands, arrays["data/BANDS"].transpose(0, 3, 1, 2))
        return scene

    def without_place(self, scene):
        assert not {"y", "x", "y_label", "x_label", "spatial_ref"} & set(scene.coords)
        assert scene.rio.crs is None
        assert "time" in scene.coords

    def without_dates(self, scene):
        assert "time" not in scene.coords
        assert scene.rio.crs.to_epsg() == 32633

    def test_hostile_box(self, write_2021, arrays, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'ran'}",)

        folder = write_2021()
        (folder / "bbox.pkl.gz").write_bytes(gzip.compress(pickle.dumps(Hostile())))
        scene = self.opened(folder, arrays, r"opened without georeference.*system")
        self.without_place(scene)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "content",
        [b"", b"not gzip", gzip.compress(b"not a pickle"), gzip.compress(pickle.dumps(DATES))[:-12]],
        ids=["empty", "not gzip", "not pickle", "truncated"],
    )
    def test_broken_dates(self, write_2021, arrays, content):
        folder = write_2021()
        (folder / "timestamp.pkl.gz").write_bytes(content)
        self.without_dates(self.opened(folder, arrays, "opened without dates"))

    @pytest.mark.parametrize("content", [DATES[:2], [], {"a": 1}, 3, ["2019-03-01"] * FRAMES, [DATES[0].date()] * 3])
    def test_pickles_of_something_else(self, write_2021, arrays, content):
        folder = write_2021()
        (folder / "timestamp.pkl.gz").write_bytes(gzip.compress(pickle.dumps(content)))
        if content == ["2019-03-01"] * FRAMES:
            assert "time" in open_scene(folder).coords
        else:
            self.without_dates(self.opened(folder, arrays, "opened without dates"))

    def test_a_box_that_inflates_without_end(self, write_2021, arrays):
        folder = write_2021()
        (folder / "bbox.pkl.gz").write_bytes(gzip.compress(bytes(1 << 26)))
        tracemalloc.start()
        scene = self.opened(folder, arrays, "more than 1048576 bytes")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.without_place(scene)
        assert peak < 1 << 24

    def test_absent(self, write_2021, arrays):
        folder = write_2021()
        (folder / "bbox.pkl.gz").unlink()
        self.without_place(self.opened(folder, arrays, r"there is no bbox\.geojson and no bbox\.pkl\.gz"))

    @pytest.mark.parametrize(
        "change",
        [
            {"coordinates": [[[0, 0], [0, 0], [1, 0]]]},
            {"coordinates": [[[float("nan"), 0], [1, 1]]]},
            {"coordinates": [[[0, 0], [float("inf"), 1]]]},
            {"coordinates": 5},
            {"crs": None},
            {"crs": {"properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
            {"crs": {"properties": {"name": "EPSG:99999999"}}},
        ],
        ids=["flat", "nan", "infinite", "number", "no crs", "no code", "unknown code"],
    )
    def test_broken_geojson(self, write_1x, arrays, bbox_geojson, change):
        folder = write_1x()
        (folder / "bbox.geojson").write_text(json.dumps({**bbox_geojson, **change}))
        self.without_place(self.opened(folder, arrays, "opened without georeference"))

    @pytest.mark.parametrize("text", ["", "[", '["yesterday"]', "{}", "[1, 2, 3]", '["2019-03-01T10:00:00"]'])
    def test_broken_json_dates(self, write_1x, arrays, text):
        folder = write_1x()
        (folder / "timestamps.json").write_text(text)
        self.without_dates(self.opened(folder, arrays, "opened without dates"))


def test_dates_with_time_zones_become_utc(write_1x):
    folder = write_1x()
    (folder / "timestamps.json").write_text(json.dumps(["2019-03-01T11:00:00+02:00", "2019-04-01", "2019-05-01T00:00"]))
    expected = np.array(["2019-03-01T09:00", "2019-04-01", "2019-05-01"], "datetime64[ns]")
    np.testing.assert_array_equal(open_scene(folder).time, expected)


class TestBadArrays:
    """One message with the file's name for each."""

    def refused(self, folder, match):
        with pytest.raises(SpinetError, match=match) as caught:
            open_scene(folder)
        assert str(folder) in str(caught.value)

    def test_no_bands(self, write_2021):
        folder = write_2021()
        (folder / "data" / "BANDS.npy.gz").unlink()
        self.refused(folder, r"Expected the bands of an EOPatch.*There is none")

    @pytest.mark.parametrize("keep", [0, 1, 5, 30, -30, -6, -1])
    @pytest.mark.parametrize("feature", ["data/BANDS", "mask/CLM"])
    def test_truncated(self, write_2021, feature, keep):
        file = write_2021() / f"{feature}.npy.gz"
        file.write_bytes(file.read_bytes()[:keep])
        self.refused(file.parents[1], rf"{file.name}.*(truncated|not a readable array)")

    def test_truncated_inside(self, write_2021):
        file = write_2021() / "data" / "BANDS.npy.gz"
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-7]))
        self.refused(file.parents[1], "truncated: expected 1440 bytes, received 1433")

    def test_flipped_bit(self, write_2021):
        file = write_2021() / "data" / "BANDS.npy.gz"
        content = bytearray(file.read_bytes())
        content[-300] ^= 4
        file.write_bytes(content)
        self.refused(file.parents[1], r"BANDS\.npy\.gz")

    def test_not_an_array(self, write_2021):
        file = write_2021() / "mask" / "SCL.npy.gz"
        file.write_bytes(gzip.compress(b"text"))
        self.refused(file.parents[1], r"SCL\.npy\.gz is not a readable array")

    def test_object_arrays_are_not_unpickled(self, write_2021, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'ran'}",)

        file = write_2021() / "mask" / "CLM.npy.gz"
        write_npy_gz(file, np.array([Hostile()], object), allow_pickle=True)
        self.refused(file.parents[1], r"Expected bool or uint8 in .*CLM\.npy\.gz\. Received: object")
        assert not (tmp_path / "ran").exists()

    def test_header_larger_than_the_file(self, write_2021):
        file = write_2021() / "data" / "BANDS.npy.gz"
        content = gzip.decompress(file.read_bytes())
        larger = content.replace(b"(3, 4, 5, 12), }" + b" " * 10, b"(300000, 40000, 5, 12), }".ljust(26))
        assert len(larger) == len(content)
        assert larger != content
        file.write_bytes(gzip.compress(larger))
        self.refused(file.parents[1], "announces 1440000000000 bytes, more than it can hold")

    @pytest.mark.parametrize("suffix", [".npy", ".npy.gz", ".zarr"])
    @pytest.mark.parametrize(
        ("feature", "change", "match"),
        [
            ("data/BANDS", lambda a: a.astype("float32") / 10000, "Expected uint16 in .*BANDS.*Received: float32"),
            ("data/BANDS", lambda a: a.astype("int32"), "Received: int32"),
            (
                "data/BANDS",
                lambda a: a[..., :10],
                r"Expected the shape \(any, any, any, 12\).*Received: \(3, 4, 5, 10\)",
            ),
            ("data/BANDS", lambda a: a[0], r"Received: \(4, 5, 12\)"),
            ("mask/CLM", lambda a: a[:2], r"Expected the shape \(3, 4, 5, 1\) in .*CLM.*Received: \(2, 4, 5, 1\)"),
            ("mask/SCL", lambda a: a.astype("int64"), "Expected uint8 in .*SCL.*Received: int64"),
            ("mask/IS_DATA", lambda a: a[..., 0], r"Received: \(3, 4, 5\)"),
            ("scalar/NORM_FACTORS", lambda a: a[:, 0], r"Expected the shape \(3, 1\)"),
            ("scalar/NORM_FACTORS", lambda a: a * np.nan, "Expected finite factors above 0"),
            ("scalar/NORM_FACTORS", lambda a: a * 0, "Expected finite factors above 0"),
            ("mask_timeless/CULTIVATED", lambda a: a[:-1], "Label of the wrong size: .*4 x 5.*Received: 15 x 20"),
            ("mask_timeless/CULTIVATED", lambda a: a[:8], "Label of the wrong size: .*4 x 5.*Received: 8 x 20"),
            ("mask_timeless/CULTIVATED", lambda a: a[:2, :2], "Label of the wrong size: .*Received: 2 x 2"),
            ("mask_timeless/NOT_DECLARED", lambda a: a[1:], r"Expected the shape \(16, 20, 1\)"),
        ],
    )
    def test_wrong_shape_or_type(self, write_1x, arrays, suffix, feature, change, match):
        arrays[feature] = change(arrays[feature])
        self.refused(write_1x(suffix), match)

    def test_no_frames(self, write_1x, arrays):
        arrays["data/BANDS"] = arrays["data/BANDS"][:0]
        self.refused(write_1x(), r"Received: \(0, 4, 5, 12\)")

    def test_empty_zarr_folder(self, write_1x):
        folder = write_1x(".zarr")
        shutil.rmtree(folder / "mask" / "CLM.zarr")
        (folder / "mask" / "CLM.zarr").mkdir()
        self.refused(folder, r"CLM\.zarr is not a readable array")
