"""What grows where and when in a simulated scene: land covers as changing mixtures of six materials."""

from typing import NamedTuple

import numpy as np

# Reflectance of the pure materials, in the order of spinet_tf.bands.BANDS. Rounded by hand to the shapes of
# laboratory and field spectra: dark brown loam, dense grass and cereal canopies, a closed broadleaf canopy, straw, a
# clear lake, and a mix of roofs and asphalt. Reference: Kokaly et al. 2017, USGS Spectral Library Version 7,
# doi:10.3133/ds1035
MATERIALS = ("soil", "leaf", "tree", "straw", "built", "water")
SPECTRA = np.array(
    [
        [0.060, 0.075, 0.100, 0.135, 0.165, 0.185, 0.200, 0.220, 0.235, 0.240, 0.300, 0.240],
        [0.020, 0.025, 0.055, 0.030, 0.095, 0.300, 0.390, 0.420, 0.440, 0.445, 0.210, 0.100],
        [0.014, 0.017, 0.038, 0.018, 0.065, 0.240, 0.310, 0.330, 0.350, 0.355, 0.150, 0.065],
        [0.080, 0.100, 0.140, 0.190, 0.220, 0.240, 0.260, 0.290, 0.310, 0.310, 0.380, 0.280],
        [0.110, 0.120, 0.130, 0.140, 0.145, 0.150, 0.155, 0.165, 0.170, 0.175, 0.200, 0.180],
        [0.040, 0.045, 0.050, 0.035, 0.025, 0.015, 0.012, 0.010, 0.008, 0.006, 0.004, 0.003],
    ],
    "float32",
)
# Spread of a material's brightness between parcels, and within them.
_BETWEEN = (0.22, 0.06, 0.08, 0.12, 0.25, 0.15)
_WITHIN = (0.06, 0.08, 0.12, 0.06, 0.25, 0.02)
SOIL, LEAF, TREE, STRAW, BUILT, WATER = range(len(MATERIALS))


class Season(NamedTuple):
    """A double logistic of green cover: from `low` it rises about day `up`, falls about day `down` (days of the
    year).
    """

    low: float
    high: float
    up: float
    up_days: float
    down: float
    down_days: float


class Cover(NamedTuple):
    """A kind of land. `share` is how often it is drawn among its kind; materials not named have none."""

    share: float
    season: Season
    canopy: int  # the material that is green
    straw: float = 0.0  # the part of the fallen green that stays as straw until the field is ploughed
    ploughed: float = 400.0
    mowings: int = 0
    constant: tuple[tuple[int, float], ...] = ()  # (material, cover) all year, the season has the rest
    bare: int = SOIL  # what is seen where nothing is green


# Sowing and harvest as in central Europe: winter crops are green from March to June, summer crops from June on.
CROPS = {
    "winter cereal": Cover(0.30, Season(0.15, 0.93, 82, 11, 181, 6), LEAF, straw=0.85, ploughed=222),
    "rapeseed": Cover(0.12, Season(0.25, 0.93, 74, 10, 173, 7), LEAF, straw=0.7, ploughed=212),
    "spring cereal": Cover(0.10, Season(0.0, 0.88, 112, 9, 188, 6), LEAF, straw=0.85, ploughed=228),
    "maize": Cover(0.28, Season(0.0, 0.92, 161, 8, 262, 9), LEAF, straw=0.6),
    "soya": Cover(0.10, Season(0.0, 0.92, 166, 9, 252, 9), LEAF, straw=0.4),
    "vegetables": Cover(0.10, Season(0.0, 0.75, 146, 9, 214, 9), LEAF, straw=0.1),
}
# Grass is green when crops are, so that no mean over the season parts the two.
OTHERS = {
    "meadow": Cover(0.40, Season(0.35, 0.92, 94, 10, 300, 15), LEAF, mowings=3, bare=STRAW),
    "pasture": Cover(0.18, Season(0.35, 0.78, 98, 12, 235, 30), LEAF, straw=0.7, bare=STRAW),
    "fallow": Cover(0.07, Season(0.10, 0.60, 118, 14, 215, 20), LEAF, straw=0.7, constant=((STRAW, 0.2),)),
    "orchard": Cover(0.05, Season(0.10, 0.85, 112, 8, 300, 10), TREE, constant=((LEAF, 0.35), (SOIL, 0.25))),
    "broadleaf forest": Cover(0.14, Season(0.10, 0.95, 113, 6, 292, 8), TREE, bare=STRAW),
    "conifer forest": Cover(0.04, Season(0.62, 0.72, 120, 15, 330, 15), TREE),
    "village": Cover(0.09, Season(0.20, 0.80, 105, 10, 290, 15), LEAF, constant=((BUILT, 0.55), (TREE, 0.15))),
    "water": Cover(0.03, Season(0, 0, 0, 1, 0, 1), LEAF, constant=((WATER, 1.0),)),
}
LINES = {
    "road": Cover(0, Season(0, 0, 0, 1, 0, 1), LEAF, constant=((BUILT, 1.0),)),
    "hedge": Cover(0, Season(0.15, 0.9, 110, 6, 292, 8), TREE, bare=STRAW),
    "verge": Cover(0, Season(0.35, 0.85, 95, 10, 260, 20), LEAF, bare=STRAW),
}
COVERS = {**CROPS, **OTHERS, **LINES}
NAMES = tuple(COVERS)
CULTIVATED = np.array([name in CROPS for name in NAMES])


def draw_mixtures(rng: np.random.Generator, covers: np.ndarray, days: np.ndarray) -> np.ndarray:
    """How much of each material each parcel shows on each day.

    Green cover follows a double logistic (Beck et al. 2006, doi:10.1016/j.rse.2005.10.021), early or late by some
    days in each parcel; what falls turns to straw until the field is ploughed, meadows are mown and grow again, soil
    is seen in between.

    Args:
        rng: draws the timing and the brightness of each parcel.
        covers: (parcels,) indices into `NAMES`.
        days: (time,) days of the year.

    Returns:
        float32 (time, materials, parcels): covered share times the relative brightness of the material in that parcel.
    """
    season_shift = rng.normal(0, 5)
    moisture = rng.uniform(0.65, 1.05, len(days))  # soil is darker after rain
    mixtures = np.zeros((len(days), len(covers), len(MATERIALS)))
    for index, cover in enumerate(COVERS.values()):
        parcels = np.flatnonzero(covers == index)
        if len(parcels):
            mixtures[:, parcels] = _mixture(rng, cover, days - season_shift, len(parcels))
    mixtures *= np.maximum(rng.normal(1, _BETWEEN, (len(covers), len(MATERIALS))), 0.4)
    mixtures[..., SOIL] *= moisture[:, None]
    return mixtures.swapaxes(1, 2).astype("float32")


def lay_out(mixture: np.ndarray, parcel: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """The materials in each pixel of the map on one date.

    Args:
        mixture: float32 (materials, parcels), one date of `draw_mixtures`.
        parcel: (height, width), the parcel of each pixel.
        texture: float32 (height, width) of mean 0 and deviation 1: parcels are not uniform.

    Returns:
        float32 (materials, height, width).
    """
    ground = mixture.take(parcel, axis=1)
    for material, spread in zip(ground, _WITHIN, strict=True):
        material *= np.maximum(1 + spread * texture, np.float32(0.2))
    return ground


def _mixture(rng: np.random.Generator, cover: Cover, days: np.ndarray, count: int) -> np.ndarray:
    """(time, count, materials) of `count` parcels of one kind."""
    low, high, up, up_days, down, down_days = cover.season
    early = rng.normal(0, 7, count)
    day = days[:, None]
    peak = np.clip(high * rng.normal(1, 0.05, count), 0, 1)
    rise = _logistic((day - up - early) / up_days)
    fall = _logistic((day - down - early - rng.normal(0, 4, count)) / down_days)
    # What was green in winter falls with the rest.
    green = np.maximum(low + (peak - low) * rise, 0) * (1 - fall)
    ploughed = _logistic((day - cover.ploughed - rng.normal(0, 12, count)) / 1.5)
    straw = cover.straw * peak * rise * fall * (1 - ploughed)
    mowing = rng.normal(143, 10, count)
    for _ in range(cover.mowings):
        since = day - mowing
        green *= 1 - 0.6 * np.exp(-np.maximum(since, 0) / 14) * (since >= 0)
        mowing = mowing + rng.normal(45, 7, count)

    mixture = np.zeros((len(days), count, len(MATERIALS)))
    free = 1.0 - sum(part for _, part in cover.constant)
    for material, part in cover.constant:
        mixture[..., material] += part
    mixture[..., cover.canopy] += free * green
    mixture[..., STRAW] += free * straw
    mixture[..., cover.bare] += free * np.maximum(1 - green - straw, 0)
    return mixture


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
