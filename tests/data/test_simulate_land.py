"""Simulated land: a mosaic with the shares that were asked for, whose covers look through the year as they should."""

import numpy as np
import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data import simulate_covers as covers
from spinet_tf.data.simulate_parcels import draw_landscape, smooth_noise
from spinet_tf.data.simulate_region import Region, draw_region
from spinet_tf.data.simulate_seasons import draw_mixtures, draw_reflectance, draw_spectra

METRES = 2.5
VISIBLE = (slice(24, 336), slice(24, 336))


def landscape(seed, **region):
    return draw_landscape(np.random.default_rng(seed), (360, 360), METRES, VISIBLE, Region(**region))


def hectares(parcel, covered):
    return np.bincount(parcel[covered]) * METRES**2 / 1e4


class TestLandscape:
    @pytest.mark.parametrize(("cultivated", "settled"), [(0.2, 0.4), (0.45, 0.0), (0.6, 0.1)])
    def test_shares(self, cultivated, settled):
        parcel, cover = landscape(1, cultivated=cultivated, settled=settled, field_hectares=0.3)
        seen = cover[parcel[VISIBLE]]
        assert parcel.min() >= 0
        assert parcel.max() < len(cover)
        assert abs(covers.CULTIVATED[seen].mean() - cultivated) < 0.08  # roads and balks take their part
        houses = np.isin(seen, [covers.NAMES.index(name) for name in covers.SETTLED])
        assert abs(houses.mean() - settled) < 0.08

    def test_field_sizes_follow_the_region(self):
        """Half of the cultivated land lies in fields of less than about the size that was asked for."""
        for wanted in (0.1, 1.0):
            sizes = []
            for seed in range(3):
                parcel, cover = landscape(seed, field_hectares=wanted, settled=0.0)
                sizes.append(hectares(parcel, covers.CULTIVATED[cover][parcel]))
            sizes = np.sort(np.concatenate(sizes))
            half = sizes[np.searchsorted(sizes.cumsum(), sizes.sum() / 2)]
            assert 0.5 * wanted < half < 2 * wanted

    def test_elongated_fields_are_narrower(self):
        """Fields as large have more border."""
        borders = []
        for elongation in (1.2, 6.0):
            parcel, _ = landscape(2, elongation=elongation, settled=0.0, field_hectares=0.5, wobble_metres=0)
            borders.append((np.diff(parcel, axis=0) != 0).mean() + (np.diff(parcel, axis=1) != 0).mean())
        assert borders[1] > 1.2 * borders[0]

    def test_settlements_are_finer_than_fields(self):
        parcel, cover = landscape(3, settled=0.4, lot_metres=10, field_hectares=1.0)
        houses = np.isin(cover, [covers.NAMES.index(name) for name in covers.SETTLED])[parcel]
        lots, fields = hectares(parcel, houses), hectares(parcel, covers.CULTIVATED[cover][parcel])
        assert np.median(lots[lots > 0]) < 0.1
        assert np.median(fields[fields > 0.01]) > 3 * np.median(lots[lots > 0])

    def test_roads_everywhere_and_rivers_in_some(self):
        landscapes = [
            draw_landscape(np.random.default_rng(seed), (200, 200), METRES, VISIBLE, Region()) for seed in range(12)
        ]
        present = {
            name: sum(covers.NAMES.index(name) in cover[parcel] for parcel, cover in landscapes)
            for name in ("road", "river")
        }
        assert present["road"] == 12
        assert 1 <= present["river"] <= 8

    def test_regions_differ(self):
        rng = np.random.default_rng(0)
        regions = [draw_region(rng) for _ in range(300)]
        assert np.ptp([region.lateness for region in regions]) > 30
        sizes = np.array([region.field_hectares for region in regions])
        assert 0.1 <= sizes.min() < 0.15
        assert 4 < sizes.max() <= 6
        assert 0.25 < np.mean([region.drought == 0 for region in regions]) < 0.5
        assert all(0 <= region.settled < 0.6 and 0.1 < region.cultivated < 0.7 for region in regions)


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

    def curves(self, *names, **region):
        """Median NDVI of 200 parcels of the named covers on each day."""
        chosen = np.array([covers.NAMES.index(name) for name in names]).repeat(200)
        mixtures = draw_mixtures(np.random.default_rng(1), chosen, self.days, Region(**region))
        spectra = np.einsum("tmp,mb->tpb", mixtures, covers.SPECTRA)
        red, nir = spectra[..., BANDS.index("B04")], spectra[..., BANDS.index("B08")]
        return np.median(((nir - red) / (nir + red)).reshape(len(self.days), len(names), 200), axis=2).T

    def at(self, curve, month, day):
        return curve[np.datetime64(f"2019-{month:02d}-{day:02d}").astype(int) - np.datetime64("2019-03-01").astype(int)]

    def test_winter_crops_ripen_when_summer_crops_grow(self):
        wheat, barley, rape, maize = self.curves("winter wheat", "winter barley", "rapeseed", "maize")
        for winter in (wheat, barley, rape):
            assert self.at(winter, 5, 25) > 0.75
            assert self.at(winter, 8, 1) < 0.4
        assert self.at(barley, 6, 20) < self.at(wheat, 6, 20) - 0.1
        assert self.at(maize, 5, 20) < 0.35
        assert self.at(maize, 7, 20) > 0.7
        # Flowers lower the index in late April.
        assert self.at(rape, 4, 28) < 0.5 * (self.at(rape, 4, 12) + self.at(rape, 5, 20)) - 0.03

    def test_catch_crops_are_green_before_summer_crops_and_after_cereals(self):
        (maize, wheat), (maize_after, wheat_before) = (
            self.curves("maize", "winter wheat", catch_crops=chance) for chance in (0.0, 1.0)
        )
        assert self.at(maize, 4, 10) < 0.35
        assert self.at(maize_after, 4, 10) > 0.7
        assert self.at(maize_after, 5, 20) < 0.45
        assert self.at(wheat_before, 8, 31) > self.at(wheat, 8, 31) + 0.2

    def test_the_region_moves_all_seasons(self):
        early, late = (self.curves("maize", lateness=days)[0] for days in (-10, 10))
        crossing = [int(np.argmax(curve > 0.5)) for curve in (early, late)]
        assert 17 <= crossing[1] - crossing[0] <= 23

    def test_drought_turns_grass_brown_and_not_beet(self):
        (grass, beet), (dry_grass, dry_beet) = (self.curves("pasture", "sugar beet", drought=dry) for dry in (0.0, 1.0))
        assert self.at(grass, 7, 20) > 0.6
        assert self.at(dry_grass, 7, 20) < 0.45
        assert abs(self.at(dry_beet, 7, 20) - self.at(beet, 7, 20)) < 0.15
        np.testing.assert_allclose(dry_grass[:60], grass[:60], atol=0.02)

    def test_other_land(self):
        meadow, broadleaf, conifer, houses, water, road = self.curves(
            "meadow", "broadleaf forest", "conifer forest", "houses", "water", "road"
        )
        assert (meadow[30:] > 0.4).all()
        assert self.at(meadow, 5, 10) - meadow[80:120].min() > 0.05  # the first mowing
        assert self.at(broadleaf, 3, 10) < 0.5
        assert (broadleaf[90:] > 0.7).all()
        assert np.ptp(conifer) < 0.15
        assert (np.abs(houses - 0.3) < 0.2).all()
        assert (water < 0).all()
        assert (np.abs(road) < 0.2).all()

    def test_mixtures_are_shares(self):
        chosen = np.arange(len(covers.NAMES)).repeat(50)
        mixtures = draw_mixtures(np.random.default_rng(1), chosen, self.days, Region(drought=0.7))
        assert mixtures.shape == (184, len(covers.MATERIALS), 50 * len(covers.NAMES))
        assert mixtures.dtype == "float32"
        assert mixtures.min() >= 0
        soil = mixtures[:, covers.SOIL]
        others = mixtures.sum(1) - soil
        # Only soil changes its brightness, with rain.
        assert (others <= 1 + 1e-5).all()
        assert (others + soil / 0.65 >= 1 - 1e-5).all()
        assert (others + soil / 1.05 <= 1 + 1e-5).all()


class TestSpectra:
    def test_spread_around_the_pure_ones(self):
        """Parcels scatter around their scene's spectra, scenes around the table's."""
        chosen = np.zeros(400, int)
        scenes = np.stack([draw_spectra(np.random.default_rng(seed), chosen) for seed in range(40)])
        log = np.log(scenes / covers.SPECTRA)
        assert scenes.shape == (40, 400, len(covers.MATERIALS), len(BANDS))
        assert np.abs(log.mean((0, 1))).max() < 0.2
        between, within = log.mean(1).std(0), log.std(1).mean(0)
        near_infrared = BANDS.index("B08")
        assert 0.2 < between[covers.SOIL, near_infrared] < 0.35
        assert 0.1 < within[covers.SOIL, near_infrared] < 0.2
        assert between[covers.DENSE, near_infrared] < 0.15

    def test_bands_of_a_kind_vary_together(self):
        log = np.log(
            draw_spectra(np.random.default_rng(0), np.zeros(500, int))[:, covers.DENSE] / covers.SPECTRA[covers.DENSE]
        )
        correlation = np.corrcoef(log.T)
        blue, red, seven, eight, short = (BANDS.index(name) for name in ("B02", "B04", "B07", "B08", "B11"))
        assert correlation[blue, red] > 0.95
        assert correlation[seven, eight] > 0.95
        assert abs(correlation[red, eight]) < 0.5
        assert abs(correlation[red, short]) < 0.5

    def test_reflectance_mixes_the_spectra(self):
        """A lake reflects like water; a field that is bare like soil; and the texture moves both a little."""
        chosen = np.array([covers.NAMES.index("water"), covers.NAMES.index("maize")]).repeat(50)
        mean, texture = draw_reflectance(np.random.default_rng(0), chosen, np.array([130]), Region(catch_crops=0.0))
        assert mean.shape == texture.shape == (1, len(BANDS), 100)
        water, field = np.median(mean[0].reshape(len(BANDS), 2, 50), axis=2).T
        assert np.corrcoef(np.log(water), np.log(covers.SPECTRA[covers.WATER]))[0, 1] > 0.9
        assert np.corrcoef(field, covers.SPECTRA[covers.SOIL])[0, 1] > 0.97
        assert (np.abs(texture) < 0.5 * mean).all()
