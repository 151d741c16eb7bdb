"""How a simulated scene reaches the sensor: blur, sampling, shifts, atmosphere, clouds, noise and Sen2Cor's classes."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse, special

from spinet_tf.bands import BANDS
from spinet_tf.data.simulate_covers import SPECTRA

# Side of a pixel in metres, by band. https://sentiwiki.copernicus.eu/web/s2-mission
PIXEL_METRES = {
    10: ("B02", "B03", "B04", "B08"),
    20: ("B05", "B06", "B07", "B8A", "B11", "B12"),
    60: ("B01", "B09"),
}
_WAVELENGTH = np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190]) / 490
# A Gaussian of this many pixels before the pixel's own box: together their response is 0.23 at the Nyquist frequency,
# within the specified 0.15 to 0.30. Reference: Drusch et al. 2012, doi:10.1016/j.rse.2011.11.026
_BLUR_PIXELS = 0.45
# Deviation of a date's position, in pixels of 10 m and each direction: dates lie less than 10 m apart in 95 % of pairs;
# 12 m was measured before 2021. https://www.cesbio.cnrs.fr/multitemp/a-first-peek-at-new-sentinel2-geometric-processing
_SHIFT_PIXELS = 0.3
_CLOUD = np.array([0.62, 0.64, 0.63, 0.63, 0.63, 0.62, 0.62, 0.62, 0.61, 0.50, 0.42, 0.32])


class Clouds(NamedTuple):
    """One date's clouds on the grid of 10 m, float32: `cover` and `shadow`, 0 none to 1 opaque."""

    cover: np.ndarray
    shadow: np.ndarray


def observe(rng: np.random.Generator, mixture: np.ndarray, fine: float) -> np.ndarray:
    """The 12 bands that a sensor without noise sees, on a grid of 10 m.

    Bands of 20 and 60 m are blurred and averaged to their own pixels, then repeated, as the challenge's files have
    them.

    Args:
        rng: draws the shift of this date.
        mixture: float32 (materials, height, width) on the fine grid; both sides are multiples of 60 m.
        fine: metres between pixels of the fine grid.

    Returns:
        float32 reflectance (rows, columns, 12).
    """
    _, height, width = mixture.shape
    shift = rng.normal(0, _SHIFT_PIXELS * 10 / fine, 2)
    bands = np.empty((round(height * fine / 10), round(width * fine / 10), len(BANDS)), "float32")
    for metres, names in PIXEL_METRES.items():
        rows, columns = (_sampling(side, metres / fine, by) for side, by in zip((height, width), shift, strict=True))
        seen = np.stack([(columns @ (rows @ material).T).T for material in mixture])
        indices = [BANDS.index(name) for name in names]
        repeats = metres // 10
        reflectance = np.tensordot(seen, SPECTRA[:, indices], axes=(0, 0))
        bands[..., indices] = reflectance.repeat(repeats, 0).repeat(repeats, 1)
    return bands


def draw_clouds(rng: np.random.Generator, shape: tuple[int, int]) -> Clouds:
    """Draw clouds for one date: none on a third of the dates, up to two thirds of the scene on others, some thin."""
    none = np.zeros(shape, "float32")
    if rng.random() < 0.35:
        return Clouds(none, none)
    share = 0.65 * rng.beta(1, 1.8)
    field = _power_law_noise(rng, shape)
    edge = np.quantile(field, 1 - share)
    opacity = 1.0 if rng.random() < 0.7 else rng.uniform(0.15, 0.6)
    cover = opacity * np.clip((field - edge) / 0.45, 0, 1) ** 0.7
    # The sun stands in the south-south-east at ten o'clock: shadows fall to the north-north-west. The field is
    # periodic, so shadows also come from clouds outside.
    height = rng.uniform(8, 40)
    shadow = np.roll(cover, (-round(0.9 * height), -round(0.45 * height)), (0, 1)) * (1 - cover)
    return Clouds(cover.astype("float32"), shadow.astype("float32"))


def add_atmosphere(rng: np.random.Generator, bands: np.ndarray, clouds: Clouds) -> np.ndarray:
    """Clouds, shadows, what the atmospheric correction left, and noise.

    Haze grows towards the blue like aerosol scattering (Angstrom exponent 1.3). Noise is 0.0005 and 0.4 % of the
    signal: 110 to 160 times less than reflectances of 0.1 to 0.2, as specified for the sensor (Drusch et al. 2012,
    doi:10.1016/j.rse.2011.11.026).

    Returns:
        float32 reflectance (rows, columns, 12), above 0.
    """
    # Sky light reaches shadows, more of it in the blue.
    lit = 1 - clouds.shadow[..., None] * (0.72 - 0.25 * _WAVELENGTH**-2)
    cover = clouds.cover[..., None]
    bright = rng.uniform(0.85, 1.2)
    seen = bands * lit * (1 - cover) + bright * _CLOUD * cover
    gain = rng.normal(1, 0.015, len(BANDS))
    haze = rng.normal(0.002, 0.005) * _WAVELENGTH**-1.3
    noise = rng.standard_normal(bands.shape, "float32")
    seen = seen * gain + haze
    seen += noise * (0.0005 + 0.004 * seen)
    return np.maximum(seen, 0.0001).astype("float32")


def cloud_masks(rng: np.random.Generator, clouds: Clouds) -> tuple[np.ndarray, np.ndarray]:
    """Cloud probability, uint8 0 to 255, and mask, uint8 0 or 1, with the faults of real ones.

    Both are computed on a coarse grid, as those of s2cloudless are (here 40 m): edges are blocky and thin cloud is
    missed. https://github.com/sentinel-hub/sentinel2-cloud-detector
    """
    seen = ndimage.uniform_filter(clouds.cover, 4)[2::4, 2::4]
    probability = 1 / (1 + np.exp(-(seen - 0.32) / 0.06 + rng.normal(0, 0.8, seen.shape)))
    probability = probability.repeat(4, 0).repeat(4, 1)[: clouds.cover.shape[0], : clouds.cover.shape[1]]
    rest = [(0, full - part) for full, part in zip(clouds.cover.shape, probability.shape, strict=True)]
    probability = np.pad(probability, rest, mode="edge")
    return np.rint(probability * 255).astype("uint8"), (probability > 0.5).astype("uint8")


def scene_classes(rng: np.random.Generator, bands: np.ndarray, clouds: Clouds) -> np.ndarray:
    """Sen2Cor's scene classification, uint8, from thresholds on noisy views of cloud and shadow.

    https://sentiwiki.copernicus.eu/web/s2-processing
    """
    red, nir, swir = (bands[..., BANDS.index(name)] for name in ("B04", "B08", "B11"))
    ndvi = (nir - red) / (nir + red)
    cover = ndimage.uniform_filter(clouds.cover, 3) + rng.normal(0, 0.04, clouds.cover.shape)
    shadow = clouds.shadow + rng.normal(0, 0.05, clouds.cover.shape)
    classes = np.where(ndvi > 0.3, 4, 5)
    classes[(ndvi < 0.1) & (swir < 0.05)] = 6
    classes[shadow > 0.35] = 3
    classes[cover > 0.12] = 7
    classes[cover > 0.2] = 10
    classes[cover > 0.35] = 8
    classes[cover > 0.65] = 9
    return classes.astype("uint8")


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


def _power_law_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Periodic noise whose amplitude falls with frequency as in clouds, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * frequency**-1.8, shape)
    return field / field.std()
