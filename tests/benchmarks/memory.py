"""How memory and time grow with the area that is mapped: they should not, and linearly.

Scenes are simulated when they are read, in chunks of 1024 x 1024 pixels of one date, and mapped into a Cloud-Optimised
GeoTIFF by a Keras model that does next to nothing, each in a process of its own. What is measured is the rest: reading,
tiling, blending, keeping parts, writing.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import keras
import numpy as np
import rioxarray  # noqa: F401  (the accessor .rio)
import xarray as xr
from affine import Affine
from keras import ops

from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.inference import predict_scene

BANDS = ("B02", "B03", "B04", "B08")
CHUNK = 1024

EPILOG = """examples:
  python -m tests.benchmarks.memory
  python -m tests.benchmarks.memory --sizes 1000 2000 4000 --dates 10
"""


class Measured(NamedTuple):
    """What mapping a scene of some size took."""

    blocks: int
    seconds: float
    peak_bytes: int
    file_bytes: int


def simulated_scene(size: int, dates: int) -> xr.Dataset:
    """A scene of `size` x `size` pixels that is made up where and when it is read."""
    images = da.zeros((dates, len(BANDS), size, size), dtype=np.uint16, chunks=(1, len(BANDS), CHUNK, CHUNK))
    valid = da.zeros((dates, size, size), dtype=bool, chunks=(1, CHUNK, CHUNK))
    images = images.map_blocks(_images, dtype=images.dtype, meta=np.zeros((0, 0, 0, 0), np.uint16))
    valid = valid.map_blocks(_valid, dtype=valid.dtype, meta=np.zeros((0, 0, 0), bool))
    transform = Affine(10, 0, 500_000, 0, -10, 5_200_000)
    scene = xr.Dataset(
        {"bands": (("time", "band", "y", "x"), images), "valid": (("time", "y", "x"), valid)},
        coords={
            "band": list(BANDS),
            "time": np.datetime64("2023-03-01", "ns") + np.timedelta64(7, "D") * range(dates),
            "y": transform.f + (np.arange(size) + 0.5) * transform.e,
            "x": transform.c + (np.arange(size) + 0.5) * transform.a,
        },
        attrs={"name": f"{size} x {size}"},
    )
    return scene.rio.write_crs("EPSG:32633").rio.write_transform(transform)


def _images(zeros: np.ndarray, block_info) -> np.ndarray:
    rng = np.random.default_rng(block_info[None]["chunk-location"])
    return rng.integers(1, 10_000, zeros.shape, np.uint16)


def _valid(zeros: np.ndarray, block_info) -> np.ndarray:
    # Clouds of 64 pixels, over a tenth of it.
    rng = np.random.default_rng(block_info[None]["chunk-location"])
    cloud = rng.random((1, CHUNK // 64, CHUNK // 64)) < 0.1
    return ~cloud.repeat(64, axis=1).repeat(64, axis=2)[:, : zeros.shape[1], : zeros.shape[2]]


def cheap_model() -> keras.Model:
    """The mean over frames and bands of each pixel, through the sigmoid, four times finer."""
    images = keras.Input((None, None, None, len(BANDS)), name="images")
    mask = keras.Input((None,), dtype="bool", name="frame_mask")
    weights = ops.cast(mask, "float32")[:, :, None, None]
    means = ops.sum(ops.mean(images, axis=-1) * weights, axis=1) / ops.sum(weights, axis=1)
    fine = ops.repeat(ops.repeat(means, 4, axis=1), 4, axis=2)[..., None]
    model = keras.Model({"images": images, "frame_mask": mask}, fine)
    model.band_names, model.scale = BANDS, 4
    return model


def measure(size: int, dates: int, folder: str) -> Measured:
    """Map a scene in this process, and say what it took."""
    output = Path(folder) / f"{size}.tif"
    started = time.perf_counter()
    result = predict_scene(cheap_model(), simulated_scene(size, dates), output, dtype="uint8")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(result.attrs["blocks"], seconds, peak, output.stat().st_size)


@contextmanager
def fresh_process() -> Iterator[ProcessPoolExecutor]:
    """One process that has done nothing yet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        yield process


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.memory",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2000, 5000, 11_000], help="sides of scenes (default: %(default)s)"
    )
    parser.add_argument("--dates", type=int, default=3, help="their dates (default: %(default)s)")
    parser.add_argument("--folder", help="where maps are written and removed (default: the system's temporary one)")
    arguments = parser.parse_args(argv)
    if min(*arguments.sizes, arguments.dates) < 1:
        raise SpinetError("Expected sizes and dates above 0.")
    print("| pixels | blocks | time | pixels/s | peak memory | images as a whole | map |")
    print("|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, fresh_process() as process:
            found = process.submit(measure, size, arguments.dates, folder).result()
        images = 2 * arguments.dates * len(BANDS) * size**2
        print(
            f"| {size} x {size} | {found.blocks} | {found.seconds:,.0f} s | {size**2 / found.seconds:,.0f} "
            f"| {found.peak_bytes / 1e9:.2f} GB | {images / 1e9:.2f} GB | {found.file_bytes / 1e6:,.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
