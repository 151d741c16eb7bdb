"""Simulated scenes: what is written is what was simulated, the same for the same seed, and looks like farmland."""

import filecmp
import gzip
import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import matthews_corrcoef

import spinet_tf.data.simulate as simulate
from spinet_tf.data import clear_fraction, open_scene, simulate_eopatch, synthesize
from spinet_tf.errors import SpinetError


@pytest.fixture(scope="module")
def patch(tmp_path_factory):
    return simulate_eopatch(tmp_path_factory.mktemp("scenes") / "eopatch-001", seed=3, size=64, dates=20)


@pytest.fixture(scope="module")
def scene(patch):
    return open_scene(patch)


def test_opens_as_it_was_simulated(tmp_path):
    path = simulate_eopatch(tmp_path / "eopatch", seed=[4, 2], size=(13, 22), dates=5)
    rng = np.random.default_rng([4, 2])
    times, days = simulate._draw_dates(rng, 5)
    arrays = simulate.simulate_arrays(rng, 13, 22, days)
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.bands, arrays["data/BANDS"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(scene.time, np.array(times, "datetime64[ns]"))
    np.testing.assert_array_equal(scene.label == 1, arrays["mask_timeless/CULTIVATED"][..., 0])
    np.testing.assert_array_equal(scene.label == 255, arrays["mask_timeless/NOT_DECLARED"][..., 0])
    clear = arrays["mask/IS_DATA"] & (arrays["mask/CLM"] == 0) & np.isin(arrays["mask/SCL"], [4, 5, 6, 7])
    np.testing.assert_array_equal(scene.valid, clear[..., 0])
    assert scene.rio.crs.to_epsg() == 32633
    assert scene.rio.resolution() == (10, -10)
    corners = np.array(json.loads((path / "bbox.geojson").read_text())["coordinates"][0])
    assert scene.rio.bounds() == (*corners.min(0), *corners.max(0))
    assert (corners % 10 == 0).all()  # on the grid of Sentinel-2


def test_layout_of_the_challenge(patch):
    shapes = {
        "data/BANDS": ("uint16", (20, 64, 64, 12)),
        "data/CLP": ("uint8", (20, 64, 64, 1)),
        "mask/CLM": ("uint8", (20, 64, 64, 1)),
        "mask/IS_DATA": ("bool", (20, 64, 64, 1)),
        "mask/SCL": ("uint8", (20, 64, 64, 1)),
        "scalar/NORM_FACTORS": ("float32", (20, 1)),
        "mask_timeless/CULTIVATED": ("bool", (256, 256, 1)),
        "mask_timeless/NOT_DECLARED": ("bool", (256, 256, 1)),
        "mask_timeless/ALL_POLYS": ("uint16", (256, 256, 1)),
    }
    files = {str(file.relative_to(patch)) for file in patch.rglob("*") if file.is_file()}
    assert files == {f"{name}.npy.gz" for name in shapes} | {"timestamps.json", "bbox.geojson"}
    for name, (dtype, shape) in shapes.items():
        array = load(patch, name)
        assert (array.dtype.name, array.shape) == (dtype, shape), name
    assert (load(patch, "scalar/NORM_FACTORS") == np.float32(1e-4)).all()
    polygons, cultivated = load(patch, "mask_timeless/ALL_POLYS"), load(patch, "mask_timeless/CULTIVATED")
    assert (polygons[cultivated] > 0).all()
    assert (polygons[load(patch, "mask_timeless/NOT_DECLARED")] == 0).all()
    # A parcel is cultivated as a whole.
    for number in np.unique(polygons[polygons > 0]):
        assert len(np.unique(cultivated[polygons == number])) == 1


def load(patch, name):
    with gzip.open(patch / f"{name}.npy.gz") as file:
        return np.load(file, allow_pickle=False)


def test_same_seed_same_files(tmp_path):
    first, second, other = (
        simulate_eopatch(tmp_path / name, seed=seed, size=16, dates=3) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    names = [str(file.relative_to(first)) for file in first.rglob("*") if file.is_file()]
    assert (first / "data/BANDS.npy.gz").read_bytes()[3:8] == bytes(5)  # no name and no time in the header
    assert filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])
    assert not filecmp.cmp(first / "data/BANDS.npy.gz", other / "data/BANDS.npy.gz", shallow=False)


@pytest.mark.parametrize("size", [1, (7, 13), (30, 1)])
def test_any_size(tmp_path, size):
    scene = open_scene(simulate_eopatch(tmp_path / "eopatch", seed=1, size=size, dates=1))
    height, width = (size, size) if isinstance(size, int) else size
    assert scene.bands.shape == (1, 12, height, width)
    assert scene.label.shape == (4 * height, 4 * width)


def test_dates(tmp_path, scene):
    times = scene.time.values
    assert times[0] >= np.datetime64("2019-03-01")
    assert times[-1] < np.datetime64("2019-09-01")
    gaps = np.diff(times.astype("datetime64[D]")).astype(int)
    assert set(gaps % 5) <= {0, 2, 3}  # two orbits of five days
    every_day = open_scene(simulate_eopatch(tmp_path / "eopatch", seed=0, size=1, dates=184))
    assert len(np.unique(every_day.time)) == 184


def test_synthesize(tmp_path, capsys):
    paths = synthesize(tmp_path, count=2, size=6, dates=2, seed=5)
    assert paths == [tmp_path / "eopatch-001", tmp_path / "eopatch-002"]
    first, second = (open_scene(path) for path in paths)
    assert not np.array_equal(first.bands, second.bands)
    alone = simulate_eopatch(tmp_path / "alone", seed=[5, 2], size=6, dates=2)
    np.testing.assert_array_equal(open_scene(alone).bands, second.bands)
    with pytest.raises(SpinetError, match=r"eopatch-001 exists already.*--overwrite"):
        synthesize(tmp_path, count=1, size=6, dates=2)
    synthesize(tmp_path, count=1, size=6, dates=3, overwrite=True)
    assert open_scene(tmp_path / "eopatch-001").sizes["time"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "eopatch-001", "eopatch-002"]


def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate, "_draw_bbox", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate_eopatch(tmp_path / "eopatch", seed=0, size=2, dates=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "Expected a size of at least 1 x 1 pixels. Received: 0 x 0"),
        ({"size": (4, -1)}, "Received: 4 x -1"),
        ({"dates": 0}, "Expected 1 to 184 dates. Received: 0"),
        ({"dates": 185}, "Received: 185"),
        ({"count": 0}, "Expected at least 1 scene. Received: 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, options, match):
    with pytest.raises(SpinetError, match=match):
        synthesize(tmp_path, **{"count": 1, "size": 4, "dates": 2, **options})


def test_masks_are_mostly_right(scene, patch):
    masks = {name: load(patch, name)[..., 0] for name in ("mask/CLM", "mask/SCL", "data/CLP", "mask/IS_DATA")}
    np.testing.assert_array_equal(masks["mask/CLM"] == 1, masks["data/CLP"] > 127)
    np.testing.assert_array_equal(masks["mask/IS_DATA"], (scene.bands != 0).any("band"))
    blue = scene.bands.sel(band="B02").values
    assert (blue[masks["mask/CLM"] == 1] > 1500).mean() > 0.9
    assert (blue[scene.valid.values] < 1500).mean() > 0.9
    # Thin cloud that no mask saw is left.
    assert (blue[scene.valid.values] > 1600).any()
    assert set(np.unique(masks["mask/SCL"])) >= {3, 4, 5, 8, 9}


def test_some_frames_are_clear_and_some_are_not(scene):
    fraction = clear_fraction(scene)
    assert (fraction > 0.95).sum() >= 4
    assert (fraction < 0.75).sum() >= 4


def test_the_mean_alone_does_not_tell(tmp_path):
    """The best thresholds on the mean NDVI, chosen on the answer itself, leave half of it open."""
    values, truth = [], []
    for number in range(4):
        scene = open_scene(simulate_eopatch(tmp_path / str(number), seed=number, size=36, dates=8))
        red, nir = (scene.bands.sel(band=name).astype("float32") for name in ("B04", "B08"))
        mean = np.nan_to_num(((nir - red) / (nir + red)).where(scene.valid).mean("time").values)
        values.append(ndimage.zoom(mean, 4, order=3, mode="nearest", grid_mode=True))
        truth.append(scene.label.values)
    values, truth = np.concatenate(values), np.concatenate(truth)
    known = truth != 255
    values, truth = values[known][::5], truth[known][::5]
    steps = np.linspace(0.2, 0.9, 15)
    scores = [
        matthews_corrcoef(truth, (values > low) & (values <= high)) for low in steps for high in steps if low < high
    ]
    assert 0.1 < max(scores) < 0.6
