"""How a simulated scene reaches the sensor: blur, sampling and shifts of each band."""

import numpy as np
from scipy import sparse, special

from spinet_tf.bands import BANDS

# Side of a pixel in metres, by band. https://sentiwiki.copernicus.eu/web/s2-mission
PIXEL_METRES = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
    60: ("B01", "B09"),
}
# A Gaussian of this many pixels before the pixel's own box: together their response is 0.23 at the Nyquist frequency,
# within the specified 0.15 to 0.30. Reference: Drusch et al. 2012, doi:10.1016/j.rse.2011.11.026
_BLUR_PIXELS = 0.45
# Deviation of a date's position, in pixels of 10 m and each direction: dates lie less than 10 m apart in 95 % of pairs;
# 12 m was measured before 2021. https://www.cesbio.cnrs.fr/multitemp/a-first-peek-at-new-sentinel2-geometric-processing
_SHIFT_PIXELS = 0.3


def observe(rng: np.random.Generator, reflectance: np.ndarray, fine: float) -> np.ndarray:
    """The 12 bands that a sensor without noise sees, on a grid of 10 m.

    Bands of 20 and 60 m are blurred and averaged to their own pixels, then repeated, as the challenge's files have
    them.

    Args:
        rng: draws the shift of this date.
        reflectance: float32 (12, height, width) on the fine grid; both sides are multiples of 60 m.
        fine: metres between pixels of the fine grid.

    Returns:
        float32 reflectance (rows, columns, 12).
    """
    _, height, width = reflectance.shape
    shift = rng.normal(0, _SHIFT_PIXELS * 10 / fine, 2)
    bands = np.empty((round(height * fine / 10), round(width * fine / 10), len(BANDS)), "float32")
    for metres, names in PIXEL_METRES.items():
        rows, columns = (_sampling(side, metres / fine, by) for side, by in zip((height, width), shift, strict=True))
        repeats = metres // 10
        for name in names:
            band = BANDS.index(name)
            seen = (columns @ (rows @ reflectance[band]).T).T
            bands[..., band] = seen.repeat(repeats, 0).repeat(repeats, 1)
    return bands


def _sampling(length: int, pixel: float, shift: float) -> sparse.csr_array:
    """The matrix (pixels, length) that blurs, shifts and averages a line: a Gaussian convolved with the pixel's box."""
    sigma = _BLUR_PIXELS * pixel
    reach = pixel / 2 + 4 * sigma
    centre = (np.arange(round(length / pixel)) + 0.5) * pixel - 0.5 + shift
    column = np.ceil(centre - reach).astype(int)[:, None] + np.arange(int(2 * reach))
    distance = column - centre[:, None]
    weights = special.ndtr((distance + pixel / 2) / sigma) - special.ndtr((distance - pixel / 2) / sigma)
    weights[(column < 0) | (column >= length)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(len(centre))[:, None], column.shape)
    entries = (weights.astype("float32").ravel(), (row.ravel(), column.clip(0, length - 1).ravel()))
    return sparse.csr_array(entries, shape=(len(centre), length))
