"""How simulated land is seen: blur, sampling and shifts of the sensor, and what the sky adds."""

import numpy as np
import pytest
from scipy import ndimage

from spinet_tf.bands import BANDS
from spinet_tf.data import simulate_sky as sky
from spinet_tf.data.simulate_sensor import PIXEL_METRES, observe


class FixedShift:
    """In place of a generator: one shift."""

    def __init__(self, *shift):
        self.shift = np.array(shift, float)

    def normal(self, mean, deviation, size):
        return self.shift


def land(height, width, value=0.0):
    return np.full((len(BANDS), height, width), value, "float32")


class TestSensor:
    def test_a_uniform_scene_stays_uniform(self, rng):
        expected = np.linspace(0.02, 0.5, len(BANDS), dtype="float32")
        bands = observe(rng, land(96, 72) + expected[:, None, None], 2.5)
        assert bands.shape == (24, 18, 12)
        np.testing.assert_allclose(bands, np.broadcast_to(expected, bands.shape), rtol=1e-5)

    def test_blur_matches_an_independent_one(self, rng):
        """Gaussian blur of SciPy, then means of 4 x 4 and 8 x 8, without a shift."""
        texture = rng.random((96, 96))
        bands = observe(FixedShift(0, 0), land(96, 96) + texture.astype("float32"), 2.5)
        for name, pixel in (("B08", 4), ("B11", 8)):
            # Ours integrates the Gaussian, SciPy samples it: steps three times finer bring the two together.
            fine = np.kron(texture, np.ones((3, 3)))
            blurred = ndimage.gaussian_filter(fine, 0.45 * pixel * 3, truncate=4)
            side = 96 // pixel
            means = blurred.reshape(side, 3 * pixel, side, 3 * pixel).mean((1, 3))
            seen = bands[:: pixel // 4, :: pixel // 4, BANDS.index(name)]
            np.testing.assert_allclose(seen[2:-2, 2:-2], means[2:-2, 2:-2], atol=4e-3)

    def test_shift_moves_the_image(self):
        """The centre of a bright field moves by the shift, in all bands alike."""
        field = land(192, 192)
        field[:, 88:104, 84:110] = 1
        still, moved = (observe(FixedShift(*shift), field, 2.5) for shift in ((0, 0), (1.5, -3.0)))
        for name in ("B02", "B05"):
            band = BANDS.index(name)
            before, after = (np.array(ndimage.center_of_mass(bands[..., band])) for bands in (still, moved))
            np.testing.assert_allclose((before - after) * 4, [1.5, -3.0], atol=0.05)

    def test_dates_are_shifted_by_a_third_of_a_pixel(self):
        """A slope of 1 a pixel is seen higher or lower by the shift."""
        slope = land(48, 48) + np.arange(48, dtype="float32")[:, None] / 4
        rng = np.random.default_rng(0)
        shifts = [observe(rng, slope, 2.5)[6, 6, BANDS.index("B08")] for _ in range(80)]
        assert 0.24 < np.std(shifts) < 0.36

    def test_coarse_bands_are_repeated(self, rng):
        bands = observe(rng, rng.random((len(BANDS), 48, 48), "float32"), 2.5)
        for metres, names in PIXEL_METRES.items():
            step = metres // 10
            for name in names:
                band = bands[..., BANDS.index(name)]
                np.testing.assert_array_equal(band, np.kron(band[::step, ::step], np.ones((step, step))))
        assert sorted(sum(PIXEL_METRES.values(), ())) == sorted(BANDS)


def clouds(shape, cover=0.0, shadow=0.0, veil=0.0):
    return sky.Clouds(*(np.full(shape, value, "float32") for value in (cover, shadow, veil)))


class TestSky:
    def test_clouds(self):
        rng = np.random.default_rng(0)
        drawn = [sky.draw_clouds(rng, (60, 48)) for _ in range(200)]
        cover = np.array([(clouds.cover > 0.1).mean() for clouds in drawn])
        assert 0.25 < (cover == 0).mean() < 0.45
        assert cover.max() < 0.7
        assert 0.18 < np.mean([clouds.veil.any() for clouds in drawn]) < 0.32
        for one in drawn:
            assert all(layer.shape == (60, 48) for layer in one)
            assert one.cover.min() >= 0
            assert one.cover.max() <= 1
            assert one.shadow.max() <= 1
            assert 0 <= one.veil.min() <= one.veil.max() <= 0.28

    def test_noise_is_as_specified(self, rng):
        seen = sky.add_atmosphere(rng, np.full((200, 200, 12), 0.15, "float32"), clouds((200, 200)))
        ratio = seen.mean((0, 1)) / seen.std((0, 1))
        assert (ratio > 100).all()
        assert (ratio < 180).all()

    def test_dates_differ_in_brightness_and_haze(self):
        rng = np.random.default_rng(0)
        seen = np.array(
            [
                sky.add_atmosphere(rng, np.full((4, 4, 12), 0.2, "float32"), clouds((4, 4))).mean((0, 1))
                for _ in range(300)
            ]
        )
        blue, short = seen[:, BANDS.index("B02")], seen[:, BANDS.index("B11")]
        assert 0.06 < short.std() / short.mean() < 0.10
        assert blue.mean() - short.mean() == pytest.approx(0.012, abs=0.005)  # haze is blue
        assert np.corrcoef(blue, short)[0, 1] > 0.5  # and the rest is of all bands

    def test_what_is_opaque_hides_the_land(self, rng):
        bright, dark = (
            sky.add_atmosphere(
                np.random.default_rng(1), np.full((6, 6, 12), value, "float32"), clouds((6, 6), cover=1.0)
            )
            for value in (0.05, 0.4)
        )
        np.testing.assert_allclose(bright, dark, rtol=1e-5)
        assert bright[..., BANDS.index("B02")].mean() > 0.4

    def test_veils_whiten_and_pass_the_masks(self):
        veiled = clouds((40, 40), veil=0.2)
        red, nir = BANDS.index("B04"), BANDS.index("B08")
        bands = np.full((40, 40, 12), 0.04, "float32")
        bands[..., nir] = 0.4
        index = []
        for one in (clouds((40, 40)), veiled):
            seen = sky.add_atmosphere(np.random.default_rng(2), bands, one)
            index.append(((seen[..., nir] - seen[..., red]) / (seen[..., nir] + seen[..., red])).mean())
        assert index[1] < index[0] - 0.2
        _, mask = sky.cloud_masks(np.random.default_rng(3), veiled)
        assert mask.mean() < 0.05
        classes = sky.scene_classes(np.random.default_rng(4), bands, veiled)
        assert np.isin(classes, [4, 5, 6, 7]).mean() > 0.95

    def test_shadows_are_dark_and_blue(self):
        lit, shaded = (
            sky.add_atmosphere(
                np.random.default_rng(5), np.full((6, 6, 12), 0.3, "float32"), clouds((6, 6), shadow=dark)
            )
            for dark in (0.0, 1.0)
        )
        ratio = (shaded / lit).mean((0, 1))
        assert ratio[BANDS.index("B11")] < 0.4
        assert ratio[BANDS.index("B02")] > ratio[BANDS.index("B11")] + 0.1
