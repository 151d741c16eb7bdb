"""One real scene as eo-learn 0.10.2 and 1.5.7 wrote it, and the NetCDF file that it was made from."""

import numpy as np
import pytest
import xarray as xr

from spinet_tf.data import clear_fraction, open_scene


@pytest.fixture(scope="module")
def old(scene_data):
    return open_scene(scene_data / "eopatches" / "eolearn-2021" / "eopatch-A")


@pytest.fixture(scope="module")
def new(scene_data):
    return open_scene(scene_data / "eopatches" / "eolearn-1.5" / "eopatch-A")


@pytest.fixture(scope="module")
def source(scene_data):
    return open_scene(scene_data / "scenes" / "be_lpis_2018_A.nc").load()


def test_layouts_agree(old, new):
    xr.testing.assert_identical(old, new)
    assert dict(old.sizes) == {"time": 118, "band": 12, "y": 16, "x": 16, "y_label": 64, "x_label": 64}


def test_place_and_dates(old, source):
    assert old.rio.crs == source.rio.crs
    assert old.rio.crs.to_epsg() == 32631
    assert old.rio.bounds() == source.rio.bounds() == (501360, 5629040, 502000, 5629680)
    assert old.rio.transform()[:6] == (40, 0, 501360, 0, -40, 5629680)
    np.testing.assert_array_equal(old.time.astype("datetime64[D]"), source.time.astype("datetime64[D]"))
    np.testing.assert_array_equal(old.y_label, source.y)
    np.testing.assert_array_equal(old.x_label, source.x)


def test_label(old, source):
    np.testing.assert_array_equal(old.label, source.label)
    assert 0.3 < (old.label == 1).mean() < 0.4


def test_frames(old, source):
    """Each frame is the source moved by -2 to 2 pixels in each direction and averaged over 4 x 4."""
    stand_ins = {"B01": "B02", "B09": "B8A"}
    names = [stand_ins.get(str(name), str(name)) for name in old.band.values]
    pixels = source.bands.sel(band=names).values.astype("float64")
    shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    averaged = []
    for dy, dx in shifts:
        moved = np.roll(pixels, (dy, dx), (2, 3))
        averaged.append(moved.reshape(118, 12, 16, 4, 16, 4).mean((3, 5)))
    inner = (..., slice(1, -1), slice(1, -1))  # rolling brings the far edge in
    difference = np.abs(np.stack(averaged) - old.bands.values)[inner].max((2, 3, 4))
    assert difference.min(0).max() <= 0.5
    chosen = {shifts[index] for index in difference.argmin(0)}
    assert len(chosen) > 15


def test_valid(old, source):
    """A pixel of 40 m is valid where most of its 16 source pixels are, but for the shifts."""
    correlation = np.corrcoef(clear_fraction(old), clear_fraction(source))[0, 1]
    assert correlation > 0.98
    assert abs(old.valid.mean() - source.valid.mean()) < 0.05
