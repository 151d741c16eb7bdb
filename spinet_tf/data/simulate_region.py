"""What differs from one simulated scene to another: the year, the climate, the customs and the shape of the land."""

from typing import NamedTuple

import numpy as np


class Region(NamedTuple):
    """What all parcels of a scene have in common; the defaults are a middling region in a middling year.

    Scenes differ in all of these at once, so that a model trained on many does not rely on one region's habits (domain
    randomisation; Tobin et al. 2017, arXiv:1703.06907).

    Attributes:
        lateness: days by which all seasons come later than in `simulate_covers`; 5 degrees of latitude or two years
            differ by about two weeks. Reference: Roetzer & Chmielewski 2001, doi:10.3354/cr018249
        mildness: how much of the summer's green stays over winter, 0 continental to 1 on the coast.
        drought: 0 none to 1 the worst, in which grass turns brown as in western Europe in July 2018. Reference:
            Buras et al. 2020, doi:10.5194/bg-17-1655-2020
        drought_days: when it begins and ends, days of the year.
        catch_crops: the chance of a catch crop before summer crops and after cereals.
        field_hectares: the median size of fields; 0.1 ha in strips to 6 ha. Reference: Lesiv et al. 2019 (field sizes
            of the world: small and very small in most of central Europe), doi:10.1111/gcb.14492
        elongation: length by width of fields.
        cultivated: the share of cultivated land.
        settled: the share of settlements.
        lot_metres: the width of houses and gardens.
        wobble_metres: how far borders are from straight.
        mosaic_metres: the distance over which farmland, woods and settlements follow each other.
    """

    lateness: float = 0.0
    mildness: float = 0.3
    drought: float = 0.0
    drought_days: tuple[float, float] = (180.0, 235.0)
    catch_crops: float = 0.3
    field_hectares: float = 0.7
    elongation: float = 3.0
    cultivated: float = 0.45
    settled: float = 0.08
    lot_metres: float = 12.0
    wobble_metres: float = 4.0
    mosaic_metres: float = 900.0


def draw_region(rng: np.random.Generator) -> Region:
    """Draw a region and a year."""
    return Region(
        lateness=rng.normal(0, 9),
        mildness=rng.uniform(0, 1),
        drought=max(0.0, rng.uniform(-0.6, 1)),
        drought_days=(rng.uniform(150, 200), rng.uniform(210, 260)),
        catch_crops=rng.uniform(0, 0.9),
        field_hectares=np.exp(rng.uniform(np.log(0.1), np.log(6.0))),
        elongation=np.exp(rng.uniform(np.log(1.2), np.log(5.0))),
        cultivated=rng.uniform(0.15, 0.6),
        settled=0.55 * rng.beta(0.8, 1.8),
        lot_metres=np.exp(rng.uniform(np.log(5.0), np.log(22.0))),
        wobble_metres=rng.uniform(0, 8),
        mosaic_metres=np.exp(rng.uniform(np.log(250), np.log(2000))),
    )
