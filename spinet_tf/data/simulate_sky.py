"""What is between a simulated scene and the sensor: clouds, shadows, haze, noise, and masks that miss some of it."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from spinet_tf.bands import BANDS
from spinet_tf.data.simulate_parcels import smooth_noise

_WAVELENGTH = np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1610, 2190]) / 490
_CLOUD = np.array([0.62, 0.64, 0.63, 0.63, 0.63, 0.62, 0.62, 0.62, 0.61, 0.50, 0.42, 0.32])


class Clouds(NamedTuple):
    """One date's clouds on the grid of 10 m, float32: `cover`, `shadow` and `veil`, thin cloud that the masks hardly
    see; 0 none to 1 opaque.
    """

    cover: np.ndarray
    shadow: np.ndarray
    veil: np.ndarray


def draw_clouds(rng: np.random.Generator, shape: tuple[int, int]) -> Clouds:
    """Draw clouds for one date: none on a third of the dates, up to two thirds of the scene on others, some thin.

    Dates clouded over are not drawn: the challenge's files leave out those of more than half cloud.

    A quarter of the dates have a veil besides, of cirrus or thick haze: Sen2Cor misses much of what is thin (Baetens et
    al. 2019, doi:10.3390/rs11040433).

    Args:
        rng: draws the clouds.
        shape: rows and columns, in pixels of 10 m.

    Returns:
        The clouds; at least a third of the scene is free of opaque ones.
    """
    none = np.zeros(shape, "float32")
    veil = none
    if rng.random() < 0.25:
        waves = 0.5 + 0.25 * smooth_noise(rng, (shape[0] + 4, shape[1] + 4), rng.uniform(20, 80))
        veil = (rng.uniform(0.04, 0.28) * waves[: shape[0], : shape[1]].clip(0, 1)).astype("float32")
    if rng.random() < 0.35:
        return Clouds(none, none, veil)
    share = 0.65 * rng.beta(1, 1.8)
    # Clouds are as large over a small scene as over a large one.
    field = _power_law_noise(rng, (max(shape[0], 160), max(shape[1], 160)))
    here = (slice(shape[0]), slice(shape[1]))
    edge = np.quantile(field[here], 1 - share)
    opacity = 1.0 if rng.random() < 0.7 else rng.uniform(0.15, 0.6)
    cover = opacity * np.clip((field - edge) / 0.45, 0, 1) ** 0.7
    # The sun stands in the south-south-east at ten o'clock: shadows fall to the north-north-west. The field is
    # periodic, so shadows also come from clouds outside.
    height = rng.uniform(8, 40)
    shadow = np.roll(cover, (-round(0.9 * height), -round(0.45 * height)), (0, 1)) * (1 - cover)
    return Clouds(cover[here].astype("float32"), shadow[here].astype("float32"), veil)


def add_atmosphere(rng: np.random.Generator, bands: np.ndarray, clouds: Clouds) -> np.ndarray:
    """Clouds, shadows, the angle of view, what the atmospheric correction left, and noise.

    Land seen from the neighbouring orbit, lower sun and thin shadow make a date some percent brighter or darker (Roy et
    al. 2017, doi:10.1016/j.rse.2017.06.019); the clear dates of the real scenes differ by 8 %. Haze grows towards the
    blue like aerosol scattering (Angstrom exponent 1.3). Noise is 0.0005 and 0.4 % of the signal: 110 to 160 times less
    than reflectances of 0.1 to 0.2, as specified for the sensor (Drusch et al. 2012, doi:10.1016/j.rse.2011.11.026).

    Returns:
        float32 reflectance (rows, columns, 12), above 0.
    """
    # Sky light reaches shadows, more of it in the blue.
    lit = 1 - clouds.shadow[..., None] * (0.72 - 0.25 * _WAVELENGTH**-2)
    bright = rng.uniform(0.85, 1.2)
    # What is behind a veil has less sun.
    seen = bands * lit * (1 - rng.uniform(0, 1.5) * clouds.veil[..., None])
    for opacity in (clouds.veil[..., None], clouds.cover[..., None]):
        seen = seen * (1 - opacity) + bright * _CLOUD * opacity
    gain = rng.normal(1, 0.08) * rng.normal(1, 0.015, len(BANDS))
    haze = (rng.gamma(1.0, 0.016) - 0.004) * _WAVELENGTH**-1.3
    noise = rng.standard_normal(bands.shape, "float32")
    seen = seen * gain + haze
    seen += noise * (0.0005 + 0.004 * seen)
    return np.maximum(seen, 0.0001).astype("float32")


def cloud_masks(rng: np.random.Generator, clouds: Clouds) -> tuple[np.ndarray, np.ndarray]:
    """Cloud probability, uint8 0 to 255, and mask, uint8 0 or 1, with the faults of real ones.

    Both are computed on a coarse grid, as those of s2cloudless are (here 40 m): edges are blocky and thin cloud is
    missed. https://github.com/sentinel-hub/sentinel2-cloud-detector
    """
    seen = ndimage.uniform_filter(clouds.cover + 0.3 * clouds.veil, 4)[2::4, 2::4]
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


def _power_law_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Periodic noise whose amplitude falls with frequency as in clouds, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * frequency**-1.8, shape)
    return field / field.std()
