"""How simulated land looks through the year: green cover, straw and soil of each parcel, and its reflectance."""

from typing import NamedTuple

import numpy as np

from spinet_tf.data.simulate_covers import BLOOM, COVERS, DENSE, LEAF, MATERIALS, SOIL, SPECTRA, STRAW, Cover, Season
from spinet_tf.data.simulate_region import Region

# How the logarithm of a spectrum varies, by band: as a whole, and in the absorption of pigments (B01 to B05), in the
# near infrared, which canopies' leaf area moves, and in the absorption of water (B11, B12). These are the directions in
# which leaf and canopy models move spectra. Reference: Jacquemoud et al. 2009 (PROSPECT + SAIL),
# doi:10.1016/j.rse.2008.01.026
_MODES = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 0.9, 1, 0.7, 0.2, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0.2, 0.7, 1, 1, 1, 1, 0.3, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.8, 1],
    ]
)
# Deviations along these for each material; the three levels (scenes, land covers in a scene, parcels) have a share
_VARIETY = {
    "soil": (0.30, 0.20, 0.05, 0.15),
    "leaf": (0.06, 0.25, 0.14, 0.20),
    "dense leaf": (0.06, 0.25, 0.12, 0.20),
    "tree": (0.10, 0.22, 0.12, 0.20),
    "straw": (0.18, 0.15, 0.05, 0.15),
    "asphalt": (0.30, 0.15, 0.05, 0.10),
    "roof": (0.40, 0.25, 0.05, 0.15),
    "water": (0.30, 0.30, 0.20, 0.20),
    "bloom": (0.10, 0.15, 0.10, 0.10),
}
_SCENE, _COVER, _PARCEL = 0.7, 0.4, 0.5
# Spread within parcels along the texture of the map: where the canopy is denser, less soil is seen.
_WITHIN = np.array([-0.10, 0.06, 0.10, 0.14, -0.06, 0.15, 0.20, 0.02, 0.1])


class Reflectance(NamedTuple):
    """Reflectance of parcels, float32 (time, bands, parcels).

    A place where the texture of the map has the value t reflects `mean` + t `texture`.
    """

    mean: np.ndarray
    texture: np.ndarray


def draw_reflectance(rng: np.random.Generator, covers: np.ndarray, days: np.ndarray, region: Region) -> Reflectance:
    """What each parcel reflects on each day, before any atmosphere.

    Materials mix linearly: reflectance is the sum over materials of the part seen times the material's spectrum in that
    parcel, which differs from `SPECTRA` by factors drawn per scene, per land cover and per parcel.

    Args:
        rng: draws timing, vigour and spectra.
        covers: (parcels,) indices into `simulate_covers.NAMES`.
        days: (time,) days of the year.
        region: what they have in common.

    Returns:
        The reflectance of the parcels.
    """
    mixtures = draw_mixtures(rng, covers, days, region)
    spectra = draw_spectra(rng, covers)
    mean = np.einsum("tmp,pmb->tbp", mixtures, spectra, optimize=True)
    patchy = np.array([cover.patchy for cover in COVERS.values()])[covers] * rng.lognormal(0, 0.3, len(covers))
    uneven = mixtures * (_WITHIN[:, None] * patchy).astype("float32")
    texture = np.einsum("tmp,pmb->tbp", uneven, spectra, optimize=True)
    return Reflectance(mean, texture)


def draw_spectra(rng: np.random.Generator, covers: np.ndarray) -> np.ndarray:
    """The spectra of the materials in each parcel: float32 (parcels, materials, bands)."""
    variety = np.array([_VARIETY[name] for name in MATERIALS])
    scene, cover, parcel = (
        share * variety * rng.normal(size=(count, *variety.shape))
        for share, count in ((_SCENE, 1), (_COVER, len(COVERS)), (_PARCEL, len(covers)))
    )
    change = (scene + cover[covers] + parcel).clip(-0.9, 0.9)
    return (SPECTRA * np.exp(change @ _MODES)).astype("float32")


def draw_mixtures(rng: np.random.Generator, covers: np.ndarray, days: np.ndarray, region: Region) -> np.ndarray:
    """How much of each material each parcel shows on each day.

    Green cover follows a double logistic for each season (Beck et al. 2006, doi:10.1016/j.rse.2005.10.021), early or
    late by some days in the whole scene, in each crop and in each parcel; what falls turns to straw until the field is
    ploughed, rapeseed flowers, meadows are mown and grow again, drought turns grass brown, bare soil is seen in
    between, with some weeds and what the last crop left, and is darker after rain.

    Args:
        rng: draws the timing and the vigour of each parcel.
        covers: (parcels,) indices into `simulate_covers.NAMES`.
        days: (time,) days of the year.
        region: what they have in common.

    Returns:
        float32 (time, materials, parcels): covered shares.
    """
    moisture = rng.uniform(0.65, 1.05, len(days))
    mixtures = np.zeros((len(days), len(covers), len(MATERIALS)), "float32")
    for index, cover in enumerate(COVERS.values()):
        parcels = np.flatnonzero(covers == index)
        if len(parcels):
            mixtures[:, parcels] = _mixture(rng, cover, days[:, None], len(parcels), region)
    mixtures[..., SOIL] *= moisture[:, None]
    return mixtures.swapaxes(1, 2)


def _mixture(rng: np.random.Generator, cover: Cover, day: np.ndarray, count: int, region: Region) -> np.ndarray:
    """(time, count, materials) of `count` parcels of one kind."""
    late = region.lateness + rng.normal(0, 4) + rng.normal(0, cover.spread, count)
    vigour = rng.normal(1, 0.08, count).clip(0.6, 1.1)
    green, straw = np.zeros((len(day), count)), np.zeros((len(day), count))
    for season in cover.seasons:
        stands = rng.random(count) < (region.catch_crops if season.catch_crop else 1)
        grown, fallen = _grow(rng, season, day - late, vigour, region.mildness)
        green, straw = np.maximum(green, grown * stands), np.maximum(straw, fallen * stands)
    straw *= 1 - _logistic((day - late - cover.ploughed - rng.normal(0, 12, count)) / 1.5)

    green *= 1 - cover.thirst * region.drought * _between(day, *region.drought_days, 8) * rng.uniform(0.7, 1, count)
    first = 138 + region.lateness + rng.normal(0, 12, count)
    for number in range(cover.mowings):
        since = day - first - number * rng.normal(45, 8, count)
        depth = rng.uniform(0.3, 0.8, count) * (rng.random(count) < 0.8)
        green *= 1 - depth * np.exp(-np.maximum(since, 0) / 14) * (since >= 0)
    if cover.bare == SOIL and not cover.constant:
        green = np.maximum(green, rng.exponential(0.03, count).clip(0, 0.3))  # weeds
        left = rng.uniform(0, 0.4, count) * (1 - _logistic((day - late - 105 - rng.normal(0, 12, count)) / 2))
        straw = np.maximum(straw, left)

    mixture = np.zeros((len(day), count, len(MATERIALS)))
    free = 1.0 - sum(part for _, part in cover.constant)
    for material, part in cover.constant:
        mixture[..., material] += part
    flowers = cover.bloom * np.exp(-(((day - late - 118) / 11) ** 2)) * rng.uniform(0.6, 1, count)
    canopy = free * green * (1 - flowers)
    # Where the ground is covered, leaf area still grows: the near infrared rises on, the visible hardly changes.
    dense = canopy * cover.dense * ((green - 0.5) / 0.4).clip(0, 1) * rng.uniform(0.5, 1, count)
    if cover.canopy != LEAF:
        dense = 0 * dense
    mixture[..., DENSE] += dense
    mixture[..., cover.canopy] += canopy - dense
    mixture[..., BLOOM] += free * green * flowers
    straw = np.minimum(straw, 1 - green)
    mixture[..., STRAW] += free * straw
    mixture[..., cover.bare] += free * (1 - green - straw)
    return mixture


def _grow(
    rng: np.random.Generator, season: Season, day: np.ndarray, vigour: np.ndarray, mildness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Green cover and straw of one season, (time, parcels)."""
    high = np.clip(season.high * vigour, 0, 1)
    # What overwinters grows through a mild one.
    low = season.low + (0.8 * mildness * np.maximum(high - season.low, 0) if season.low else 0)
    rise = _logistic((day - season.up) / season.up_days)
    fall = _logistic((day - season.down - rng.normal(0, 5, len(vigour))) / season.down_days)
    return (low + (high - low) * rise) * (1 - fall), season.straw * high * rise * fall


def _between(day: np.ndarray, first: float, last: float, days: float) -> np.ndarray:
    return _logistic((day - first) / days) * (1 - _logistic((day - last) / days))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
