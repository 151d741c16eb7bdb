"""Simulated scenes: what is written is what was simulated, the same for the same seed, and looks like farmland."""

import filecmp
import gzip
import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import matthews_corrcoef

import spinet_tf.data.simulate as simulate
from spinet_tf.bands import BANDS
from spinet_tf.data import clear_fraction, open_scene, simulate_eopatch, synthesize
from spinet_tf.data import simulate_covers as covers
from spinet_tf.data import simulate_sensor as sensor
from spinet_tf.data.simulate_parcels import draw_landscape, smooth_noise
from spinet_tf.errors import SpinetError


@pytest.fixture(scope="module")
def patch(tmp_path_factory):
    return simulate_eopatch(tmp_path_factory.mktemp("scenes") / "eopatch-001", seed=3, size=64, dates=20)


@pytest.fixture(scope="module")
def scene(patch):
    return open_scene(patch)


def ndvi(scene):
    red, nir = (scene.bands.sel(band=name).astype("float32") for name in ("B04", "B08"))
    return ((nir - red) / (nir + red)).where(scene.valid)


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


@pytest.mark.parametrize("seed", range(6))
def test_share_of_cultivated_land(seed):
    visible = (slice(24, 280), slice(24, 280))
    parcel, cover = draw_landscape(np.random.default_rng(seed), (304, 304), 2.5, visible)
    cultivated = covers.CULTIVATED[cover][parcel]
    assert 0.3 < cultivated[visible].mean() < 0.6
    assert parcel.max() < len(cover)
    # Half of the cultivated land lies in fields of less than 0.25 to 1.5 ha, none in a field above 6 ha.
    areas = np.sort(np.bincount(parcel[cultivated])) * 2.5**2 / 1e4
    half = areas[np.searchsorted(areas.cumsum(), areas.sum() / 2)]
    assert 0.25 < half < 1.5
    assert areas.max() < 6


def test_smooth_noise(rng):
    for wavelength in (1.5, 10, 40):
        field = smooth_noise(rng, (150, 130), wavelength)
        assert field.shape == (150, 130)
        assert abs(field.mean()) < 1e-5
        assert abs(field.std() - 1) < 1e-5
    neighbours = np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]
    assert neighbours > 0.98


class TestPhenology:
    days = np.arange(60, 244)

    def curves(self, *names):
        """Median NDVI of 200 parcels of the named covers on each day."""
        chosen = np.array([covers.NAMES.index(name) for name in names]).repeat(200)
        mixtures = covers.draw_mixtures(np.random.default_rng(1), chosen, self.days)
        spectra = np.einsum("tmp,mb->tpb", mixtures, covers.SPECTRA)
        red, nir = spectra[..., BANDS.index("B04")], spectra[..., BANDS.index("B08")]
        return np.median(((nir - red) / (nir + red)).reshape(len(self.days), len(names), 200), axis=2).T

    def at(self, curve, month, day):
        return curve[np.datetime64(f"2019-{month:02d}-{day:02d}").astype(int) - np.datetime64("2019-03-01").astype(int)]

    def test_winter_crops_ripen_when_summer_crops_grow(self):
        cereal, rape, maize = self.curves("winter cereal", "rapeseed", "maize")
        for winter in (cereal, rape):
            assert self.at(winter, 5, 20) > 0.75
            assert self.at(winter, 8, 1) < 0.35
        assert self.at(maize, 4, 15) < 0.3
        assert self.at(maize, 5, 15) < 0.4
        assert self.at(maize, 7, 20) > 0.7

    def test_other_land(self):
        meadow, broadleaf, conifer, village, water, road = self.curves(
            "meadow", "broadleaf forest", "conifer forest", "village", "water", "road"
        )
        assert (meadow[30:] > 0.4).all()
        assert self.at(meadow, 5, 15) - meadow[80:110].min() > 0.1  # the first mowing
        assert self.at(broadleaf, 3, 10) < 0.5
        assert (broadleaf[90:] > 0.7).all()
        assert np.ptp(conifer) < 0.15
        assert (np.abs(village - 0.4) < 0.2).all()
        assert (water < 0).all()
        assert (np.abs(road) < 0.2).all()

    def test_mixtures_are_shares(self):
        chosen = np.arange(len(covers.NAMES)).repeat(50)
        mixtures = covers.draw_mixtures(np.random.default_rng(1), chosen, self.days)
        assert mixtures.shape == (184, 6, 50 * len(covers.NAMES))
        assert mixtures.dtype == "float32"
        assert mixtures.min() >= 0
        total = mixtures.sum(1)
        assert total.min() > 0.2
        assert total.max() < 2

    def test_the_mean_alone_does_not_tell(self, tmp_path):
        """The best thresholds on the mean NDVI, chosen on the answer itself, leave half of it open."""
        values, truth = [], []
        for number in range(4):
            scene = open_scene(simulate_eopatch(tmp_path / str(number), seed=number, size=48, dates=12))
            mean = np.nan_to_num(ndvi(scene).mean("time").values)
            values.append(ndimage.zoom(mean, 4, order=3, mode="nearest", grid_mode=True))
            truth.append(scene.label.values)
        values, truth = np.concatenate(values), np.concatenate(truth)
        known = truth != 255
        values, truth = values[known][::5], truth[known][::5]
        steps = np.linspace(0.2, 0.9, 15)
        scores = [
            matthews_corrcoef(truth, (values > low) & (values <= high)) for low in steps for high in steps if low < high
        ]
        assert 0.2 < max(scores) < 0.65


class TestSensor:
    def test_a_uniform_scene_stays_uniform(self, rng):
        mixture = np.zeros((6, 96, 72), "float32")
        mixture[covers.LEAF] = 0.7
        mixture[covers.SOIL] = 0.3
        bands = sensor.observe(rng, mixture, 2.5)
        expected = 0.7 * covers.SPECTRA[covers.LEAF] + 0.3 * covers.SPECTRA[covers.SOIL]
        assert bands.shape == (24, 18, 12)
        np.testing.assert_allclose(bands, np.broadcast_to(expected, bands.shape), rtol=1e-5)

    def test_blur_matches_an_independent_one(self, rng):
        """Gaussian blur of SciPy, then means of 4 x 4 and 8 x 8, without a shift."""
        mixture = np.zeros((6, 96, 96), "float32")
        mixture[covers.BUILT] = rng.random((96, 96))
        bands = sensor.observe(FixedShift(0, 0), mixture, 2.5)
        for name, pixel in (("B08", 4), ("B11", 8)):
            # Ours integrates the Gaussian, SciPy samples it: steps three times finer bring the two together.
            fine = np.kron(mixture[covers.BUILT], np.ones((3, 3)))
            blurred = ndimage.gaussian_filter(fine, 0.45 * pixel * 3, truncate=4)
            side = 96 // pixel
            means = blurred.reshape(side, 3 * pixel, side, 3 * pixel).mean((1, 3))
            band = BANDS.index(name)
            seen = bands[:: pixel // 4, :: pixel // 4, band] / covers.SPECTRA[covers.BUILT, band]
            np.testing.assert_allclose(seen[2:-2, 2:-2], means[2:-2, 2:-2], atol=4e-3)

    def test_shift_moves_the_image(self):
        """The centre of a bright field moves by the shift, in all bands alike."""
        mixture = np.zeros((6, 192, 192), "float32")
        mixture[covers.SOIL, 88:104, 84:110] = 1
        still, moved = (sensor.observe(FixedShift(*shift), mixture, 2.5) for shift in ((0, 0), (1.5, -3.0)))
        for name in ("B02", "B05"):
            band = BANDS.index(name)
            before, after = (np.array(ndimage.center_of_mass(bands[..., band])) for bands in (still, moved))
            np.testing.assert_allclose((before - after) * 4, [1.5, -3.0], atol=0.05)

    def test_coarse_bands_are_repeated(self, rng):
        bands = sensor.observe(rng, rng.random((6, 48, 48), "float32"), 2.5)
        for metres, names in sensor.PIXEL_METRES.items():
            step = metres // 10
            for name in names:
                band = bands[..., BANDS.index(name)]
                np.testing.assert_array_equal(band, np.kron(band[::step, ::step], np.ones((step, step))))
        assert sorted(sum(sensor.PIXEL_METRES.values(), ())) == sorted(BANDS)

    def test_masks_are_mostly_right(self, scene, patch):
        masks = {name: load(patch, name)[..., 0] for name in ("mask/CLM", "mask/SCL", "data/CLP", "mask/IS_DATA")}
        np.testing.assert_array_equal(masks["mask/CLM"] == 1, masks["data/CLP"] > 127)
        np.testing.assert_array_equal(masks["mask/IS_DATA"], (scene.bands != 0).any("band"))
        blue = scene.bands.sel(band="B02").values
        assert (blue[masks["mask/CLM"] == 1] > 1500).mean() > 0.9
        assert (blue[scene.valid.values] < 1500).mean() > 0.95
        # Thin cloud that no mask saw is left.
        assert (blue[scene.valid.values] > 1600).any()
        assert set(np.unique(masks["mask/SCL"])) >= {3, 4, 5, 8, 9}

    def test_some_frames_are_clear_and_some_are_not(self, scene):
        fraction = clear_fraction(scene)
        assert (fraction > 0.95).sum() >= 4
        assert (fraction < 0.75).sum() >= 4

    def test_clouds(self):
        rng = np.random.default_rng(0)
        drawn = [sensor.draw_clouds(rng, (60, 48)) for _ in range(200)]
        cover = np.array([(clouds.cover > 0.1).mean() for clouds in drawn])
        assert 0.25 < (cover == 0).mean() < 0.45
        assert cover.max() < 0.7
        for clouds in drawn:
            assert clouds.cover.min() >= 0
            assert clouds.cover.max() <= 1
            assert clouds.shadow.max() <= 1

    def test_noise_is_as_specified(self, rng):
        clear = sensor.Clouds(np.zeros((200, 200), "float32"), np.zeros((200, 200), "float32"))
        seen = sensor.add_atmosphere(rng, np.full((200, 200, 12), 0.15, "float32"), clear)
        ratio = seen.mean((0, 1)) / seen.std((0, 1))
        assert (ratio > 100).all()
        assert (ratio < 180).all()
        assert np.abs(seen.mean((0, 1)) - 0.15).max() < 0.03


class FixedShift:
    """In place of a generator: one shift."""

    def __init__(self, *shift):
        self.shift = np.array(shift, float)

    def normal(self, mean, deviation, size):
        return self.shift
