"""A small scene made by hand."""

import numpy as np
import rioxarray  # noqa: F401  adds .rio to datasets
import xarray as xr
from affine import Affine

from spinet_tf import BANDS
from spinet_tf.tiling import Means

TRANSFORM = Affine(10, 0, 500000.5, 0, -10, 5100000.25)
CRS = "EPSG:32633"
CLOUDY = 1  # the frame without clear ground


def make_scene(height=21, width=17, time=4, bands=BANDS, georeferenced=True):
    rng = np.random.default_rng(7)
    valid = np.ones((time, height, width), bool)
    valid[CLOUDY] = False
    scene = xr.Dataset(
        {
            "bands": (
                ("time", "band", "y", "x"),
                rng.integers(1, 9000, (time, len(bands), height, width), np.uint16),
            ),
            "valid": (("time", "y", "x"), valid),
        },
        coords={
            "band": list(bands),
            "time": np.datetime64("2019-03-01", "ns") + np.arange(time) * np.timedelta64(10, "D"),
        },
        attrs={"name": "hand-made"},
    )
    if georeferenced:
        scene = scene.assign_coords(
            y=TRANSFORM.f + (np.arange(height) + 0.5) * TRANSFORM.e,
            x=TRANSFORM.c + (np.arange(width) + 0.5) * TRANSFORM.a,
        )
        scene = scene.rio.write_crs(CRS).rio.write_transform(TRANSFORM)
    return scene


class MeanEngine:
    """Answers with the mean reflectance of its frames and bands, each pixel repeated; remembers what it was asked."""

    def __init__(self, band_names=BANDS, scale=4):
        self.band_names = band_names
        self.scale = scale
        self.asked = []

    def predict(self, images, num_frames):
        self.asked.append((images, num_frames))
        answers = self.answer(real_means(images, num_frames)).astype(np.float32)
        return answers.repeat(self.scale, axis=1).repeat(self.scale, axis=2)[..., None]

    def answer(self, means):
        return means


class TileMeanEngine(MeanEngine):
    """Each pixel's mean times the mean of its tile: what a network answers that looks at the whole of its input."""

    def answer(self, means):
        return means * means.mean(axis=(1, 2), keepdims=True)


class SharingEngine(MeanEngine):
    """Looks at the whole of its input as SPInet does: frames are divided by their means, and the mean of all counts."""

    takes_means = True

    def predict(self, images, num_frames):
        return self.predict_with_means(images, num_frames, self.find_means(images, num_frames))

    def find_means(self, images, num_frames):
        frames = images.mean(axis=(2, 3, 4))[..., None]
        blocks = [sample[:count].mean(axis=0)[None] for sample, count in zip(frames, num_frames, strict=True)]
        return Means(np.array(blocks, np.float32), frames.astype(np.float32))

    def predict_with_means(self, images, num_frames, means):
        self.asked.append((images, num_frames))
        own = self.find_means(images, num_frames)
        frames, blocks = (
            np.where(np.isnan(given), mine, given) for given, mine in zip(means[::-1], own[::-1], strict=True)
        )
        answers = [
            (image[:count].mean(axis=3) / frame[:count, :, None]).mean(axis=0) * (block[0, 0] / 10000) ** 2
            for image, count, frame, block in zip(images, num_frames, frames, blocks, strict=True)
        ]
        answers = np.array(answers, np.float32)
        return answers.repeat(self.scale, axis=1).repeat(self.scale, axis=2)[..., None]


def real_means(images, num_frames):
    """Reflectance (batch, y, x), the mean over bands and over the frames that are not padding."""
    return np.stack([image[:count].mean(axis=(0, 3)) for image, count in zip(images, num_frames, strict=True)]) / 10000
