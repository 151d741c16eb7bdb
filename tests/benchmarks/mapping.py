"""What a map of a scene takes beside the network's bare forward pass on the tiles that it computes.

A simulated scene is mapped from files to files with the paper's network, untrained, once to trace its graphs and once
more with the time spent in the network measured. Then one batch of tiles goes through the network alone.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spinet_tf.bands import BANDS
from spinet_tf.data.scene import open_scene
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.inference import predict_scene
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.models import SPInet
from spinet_tf.tiling import Means

REPEATS = 3

EPILOG = """examples:
  python -m tests.benchmarks.mapping
  python -m tests.benchmarks.mapping --size 500 --dates 38
"""


class Watched(KerasEngine):
    """An engine that notes how long it takes, and the largest batch of tiles that it is shown."""

    def __init__(self, model: SPInet):
        super().__init__(model)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.seconds = {"means": 0.0, "tiles": 0.0}
        # Pixels of all frames.
        self.pixels = {"means": 0, "tiles": 0}
        self.largest: tuple[np.ndarray, np.ndarray, Means] | None = None

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """As `KerasEngine`'s."""
        with self._watched("means", images):
            return super().find_means(images, num_frames)

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """As `KerasEngine`'s."""
        if self.largest is None or images.size > self.largest[0].size:
            self.largest = images, num_frames, means
        with self._watched("tiles", images):
            return super().predict_with_means(images, num_frames, means, uncertainty)

    @contextmanager
    def _watched(self, what: str, images: np.ndarray) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started
        self.pixels[what] += images[..., 0].size


class Measured(NamedTuple):
    """What mapping a scene took, in seconds; pixels are those of all frames of all tiles.

    Attributes:
        total: from files to files.
        means: of it, in the network, for the means of the scene.
        tiles: of it, in the network, for the map.
        bare: what the network alone would take for all those pixels, at the pace of its largest batch of tiles.
        computed: pixels that the network saw for the map, as a multiple of the scene's.
    """

    total: float
    means: float
    tiles: float
    bare: float
    computed: float


def measure(model: SPInet, folder: Path, size: int, dates: int) -> Measured:
    """Map a simulated scene twice, and say what the second time took."""
    path = folder / "scene"
    simulate_eopatch(path, seed=1, size=size, dates=dates)
    engine = Watched(model)
    for name in ("first", "second"):
        engine.forget()
        started = time.perf_counter()
        predict_scene(engine, open_scene(path), folder / name / "map.tif", frames="clearest", count=dates)
        total = time.perf_counter() - started
    if engine.largest is None:
        raise SpinetError("Expected a scene of more than one tile. Give a greater --size.")
    images, num_frames, means = engine.largest
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        KerasEngine.predict_with_means(engine, images, num_frames, means)
        seconds.append(time.perf_counter() - started)
    bare = statistics.median(seconds) / images[..., 0].size * sum(engine.pixels.values())
    computed = engine.pixels["tiles"] / (dates * size**2)
    return Measured(total, engine.seconds["means"], engine.seconds["tiles"], bare, computed)


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.mapping",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", type=int, default=256, help="side of the scene, in pixels (default: %(default)s)")
    parser.add_argument("--dates", type=int, default=20, help="its images (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(SPInet(bands=BANDS), Path(folder), arguments.size, arguments.dates)
    print("| scene | seconds | in the network: means | in the network: map | computed | bare forward | bare / all |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {arguments.size} x {arguments.size}, {arguments.dates} dates | {found.total:.1f} | {found.means:.1f} "
        f"| {found.tiles:.1f} | {found.computed:.2f} | {found.bare:.1f} | {found.bare / found.total:.0%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
