"""How a scene of the test is shown: with fewer frames, with frames in another order, with frames out of place."""

import zlib

import numpy as np
import xarray as xr
from scipy import ndimage

from spinet_tf.data.scene import clear_fraction
from spinet_tf.tiling.frames import choose_frames


def drawn(scene: xr.Dataset, count: int, clearest: int, seed: int) -> xr.Dataset:
    """Random ones of the clearest frames of a scene, in order; those of a smaller count are among those of a greater.

    Scenes of other names have frames of other dates.
    """
    frames = choose_frames(clear_fraction(scene), "clearest", clearest)
    rng = np.random.default_rng([seed, zlib.crc32(scene.attrs["name"].encode())])
    return scene.isel(time=np.sort(rng.permutation(frames)[:count]))


def shuffled(scene: xr.Dataset, seed: int) -> xr.Dataset:
    """A scene with its frames in a random order, never the one they have if there are two or more."""
    rng = np.random.default_rng(seed)
    order = np.arange(scene.sizes["time"])
    while len(order) > 1 and (order == np.arange(len(order))).all():
        order = rng.permutation(len(order))
    return scene.isel(time=order)


def misregistered(scene: xr.Dataset, sigma: float, seed: int) -> xr.Dataset:
    """A scene whose frames are shifted at random, each with all its bands and its mask, its label as it is.

    The same seed gives the same directions whatever the deviation, so that shifts grow with it.

    Args:
        scene: as `open_scene` gives it.
        sigma: deviation of the shift in each direction, in pixels.
        seed: of the shifts.

    Returns:
        The scene, its images in memory.
    """
    shifts = sigma * np.random.default_rng(seed).standard_normal((scene.sizes["time"], 2))
    bands, valid = scene["bands"].to_numpy(), scene["valid"].to_numpy()
    moved = np.stack([shift_frame(frame, *shift) for frame, shift in zip(bands, shifts, strict=True)])
    # A mask is moved by whole pixels: clear ground is no matter of degree.
    mask = [ndimage.shift(frame, shift, order=0, mode="nearest") for frame, shift in zip(valid, shifts, strict=True)]
    return scene.assign(bands=(scene["bands"].dims, moved), valid=(scene["valid"].dims, np.stack(mask)))


def shift_frame(bands: np.ndarray, down: float, right: float) -> np.ndarray:
    """A frame, uint16 (band, y, x), shifted by parts of a pixel with cubic splines; pixels without data (0) have none.

    Beyond the edges are the pixels at the edges.
    """
    moved = ndimage.shift(bands.astype("float64"), (0, down, right), order=3, mode="nearest")
    dark = ndimage.shift(bands, (0, down, right), order=0, mode="nearest") == 0
    # A spline may pass below what it goes through; 0 stands for no data.
    return np.where(dark, 0, np.rint(moved).clip(1, np.iinfo("uint16").max)).astype("uint16")
