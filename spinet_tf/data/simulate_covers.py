"""What land is made of in simulated scenes: spectra of pure materials, and the land covers that mix them."""

from typing import NamedTuple

import numpy as np

# Reflectance of the pure materials, in the order of spinet_tf.bands.BANDS. Rounded by hand to the shapes of
# laboratory and field spectra: brown loam, thin and dense canopies of grass and cereals (leaf area index 2 and 6), a
# closed broadleaf canopy, straw and dead grass, asphalt, tiled roofs, a clear lake, and rapeseed in bloom. References:
# Kokaly et al. 2017, USGS Spectral Library Version 7, doi:10.3133/ds1035; for the bloom,
# d'Andrimont et al. 2020, doi:10.1016/j.rse.2020.111660
MATERIALS = ("soil", "leaf", "dense leaf", "tree", "straw", "asphalt", "roof", "water", "bloom")
SPECTRA = np.array(
    [
        [0.055, 0.070, 0.095, 0.130, 0.155, 0.175, 0.190, 0.205, 0.220, 0.225, 0.315, 0.290],
        [0.022, 0.027, 0.057, 0.038, 0.098, 0.265, 0.335, 0.360, 0.380, 0.385, 0.220, 0.115],
        [0.012, 0.016, 0.042, 0.016, 0.066, 0.360, 0.530, 0.570, 0.590, 0.595, 0.150, 0.056],
        [0.014, 0.017, 0.038, 0.018, 0.068, 0.265, 0.350, 0.375, 0.395, 0.400, 0.160, 0.068],
        [0.055, 0.070, 0.100, 0.140, 0.170, 0.195, 0.210, 0.235, 0.250, 0.255, 0.340, 0.255],
        [0.080, 0.090, 0.105, 0.115, 0.125, 0.135, 0.140, 0.150, 0.155, 0.160, 0.180, 0.165],
        [0.085, 0.105, 0.135, 0.185, 0.210, 0.225, 0.235, 0.250, 0.255, 0.260, 0.290, 0.250],
        [0.040, 0.045, 0.050, 0.035, 0.025, 0.015, 0.012, 0.010, 0.008, 0.006, 0.004, 0.003],
        [0.035, 0.045, 0.150, 0.130, 0.190, 0.340, 0.410, 0.440, 0.460, 0.465, 0.230, 0.120],
    ],
    "float32",
)
SOIL, LEAF, DENSE, TREE, STRAW, ASPHALT, ROOF, WATER, BLOOM = range(len(MATERIALS))


class Season(NamedTuple):
    """A double logistic of green cover: from `low` it rises about day `up`, falls about day `down` (days of the
    year). A catch crop grows only where it is the custom; of what falls, the part `straw` stays until it is ploughed.
    """

    low: float
    high: float
    up: float
    up_days: float
    down: float
    down_days: float
    straw: float = 0.0
    catch_crop: bool = False


class Cover(NamedTuple):
    """A kind of land. `share` is how often it is drawn among its kind; materials not named have none."""

    share: float
    seasons: tuple[Season, ...] = ()
    canopy: int = LEAF  # the material that is green
    ploughed: float = 400.0
    mowings: int = 0
    dense: float = 1.0  # how dense the canopy is where it is closed
    bloom: float = 0.0  # the part of the canopy that flowers show
    thirst: float = 0.15  # the part of the green that the worst drought takes
    constant: tuple[tuple[int, float], ...] = ()  # (material, cover) all year, the season has the rest
    bare: int = SOIL  # what is seen where nothing is green
    patchy: float = 1.0  # how uneven it is within a parcel
    spread: float = 7.0  # deviation, in days, of the timing from parcel to parcel


_BEFORE = Season(0.45, 0.92, 90, 12, 120, 4, catch_crop=True)
_AFTER = Season(0.0, 0.80, 236, 7, 400, 9, catch_crop=True)

# Sowing and harvest as in central and western Europe: winter crops are green from March to June, summer crops from May
# or June on; catch crops stand before summer crops and after cereals. References: Meroni et al. 2021 (crop phenology of
# Europe from Sentinel-2), doi:10.1016/j.rse.2020.112232; Nilsson et al. 2023 (sowing and harvest dates in Germany)
CROPS = {
    "winter wheat": Cover(0.20, (Season(0.15, 0.95, 82, 11, 186, 7, 0.85), _AFTER), ploughed=226),
    "winter barley": Cover(0.10, (Season(0.20, 0.94, 76, 11, 166, 7, 0.85), _AFTER), ploughed=212),
    "rapeseed": Cover(0.10, (Season(0.25, 0.95, 74, 10, 175, 8, 0.7),), ploughed=212, bloom=0.5),
    "spring cereal": Cover(0.08, (_BEFORE, Season(0.0, 0.90, 112, 9, 190, 7, 0.85), _AFTER), ploughed=228),
    "maize": Cover(0.22, (_BEFORE, Season(0.0, 0.94, 162, 8, 262, 9, 0.5)), thirst=0.3, spread=9),
    "soya or sunflower": Cover(0.08, (_BEFORE, Season(0.0, 0.92, 162, 9, 248, 10, 0.4)), thirst=0.3, spread=9),
    "sugar beet": Cover(0.07, (_BEFORE, Season(0.0, 0.95, 153, 9, 290, 9))),
    "potatoes": Cover(0.08, (_BEFORE, Season(0.0, 0.94, 156, 8, 232, 10, 0.2)), spread=11),
    "vegetables": Cover(
        0.07, (_BEFORE, Season(0.0, 0.80, 146, 8, 200, 6), Season(0.0, 0.8, 222, 8, 280, 8, 0, True)), spread=14
    ),
}
# Grass is green when crops are, so that no mean over the season parts the two.
OTHERS = {
    "meadow": Cover(0.40, (Season(0.45, 0.93, 92, 12, 330, 20),), mowings=3, thirst=0.85, bare=STRAW, patchy=1.6),
    "pasture": Cover(0.22, (Season(0.45, 0.85, 95, 14, 330, 30),), dense=0.7, thirst=0.9, bare=STRAW, patchy=2.5),
    "fallow": Cover(
        0.07,
        (Season(0.10, 0.65, 118, 14, 225, 20, 0.7),),
        dense=0.3,
        thirst=0.6,
        constant=((STRAW, 0.2),),
        patchy=2.0,
        spread=12,
    ),
    "orchard": Cover(0.06, (Season(0.10, 0.85, 112, 8, 300, 10),), TREE, constant=((LEAF, 0.35), (SOIL, 0.20))),
    "broadleaf forest": Cover(0.16, (Season(0.10, 0.95, 113, 6, 292, 8),), TREE, bare=STRAW),
    "conifer forest": Cover(0.06, (Season(0.66, 0.76, 120, 15, 330, 15),), TREE),
    "water": Cover(0.03, constant=((WATER, 1.0),)),
}
# What settlements are a mosaic of.
SETTLED = {
    "houses": Cover(0.24, (Season(0.4, 0.85, 95, 12, 330, 20),), constant=((ROOF, 0.75),)),
    "yard": Cover(0.20, (Season(0.4, 0.8, 95, 12, 330, 20),), constant=((ASPHALT, 0.85),)),
    "garden": Cover(
        0.32,
        (Season(0.45, 0.9, 94, 12, 330, 20),),
        mowings=2,
        dense=0.7,
        thirst=0.6,
        constant=((TREE, 0.1), (ASPHALT, 0.1)),
        bare=STRAW,
    ),
    "garden with trees": Cover(0.24, (Season(0.15, 0.9, 110, 8, 292, 10),), TREE, constant=((LEAF, 0.25),)),
}
LINES = {
    "road": Cover(0, constant=((ASPHALT, 1.0),)),
    "hedge": Cover(0, (Season(0.15, 0.9, 110, 6, 292, 8),), TREE, bare=STRAW),
    "verge": Cover(0, (Season(0.4, 0.85, 95, 10, 300, 20),), dense=0.4, thirst=0.7, bare=STRAW),
    "river": Cover(0, constant=((WATER, 1.0),)),
}
COVERS = {**CROPS, **OTHERS, **SETTLED, **LINES}
NAMES = tuple(COVERS)
CULTIVATED = np.array([name in CROPS for name in NAMES])
# Land that farmers declare, so that it stands in the register.
DECLARED = np.array([name in CROPS or name in ("meadow", "pasture", "fallow", "orchard") for name in NAMES])
