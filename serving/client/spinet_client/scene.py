"""A scene as the requests for its tiles, and their answers as its map; shared by both clients."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypedDict, TypeVar

import numpy as np

from spinet_client import calls
from spinet_client.calls import Call, Model, Prediction
from spinet_client.errors import ServingError
from spinet_client.tiling import (
    SAMPLE,
    TILE,
    WINDOW,
    FrameChoice,
    MeansOf,
    MeanSums,
    Method,
    Mosaic,
    SceneMeans,
    Series,
    Tile,
    TileRequest,
    Tiling,
    cut_request,
    require_means,
    spread_out,
)

Progress = Callable[[int, int], None]
Started = TypeVar("Started")


class MapOptions(TypedDict, total=False):
    """How a scene is made into a map; the names, meanings and defaults are those of spinet_tf.predict_scene."""

    frames: Method  # "all" (default), or "clearest": which frames of each tile the model sees
    count: int  # 20: how many "clearest" keeps
    max_cloud: float  # 0.25: the greatest part of a tile without clear ground that "all" accepts
    tile: int  # 128: the greatest side of a tile, in pixels of the scene
    overlap: int | None  # the least overlap of neighbouring tiles, over which they are blended; a quarter of a tile
    seam_free: bool | int  # False: whether windows at fixed places take the place of tiles, of 32 pixels or as many
    means: MeansOf  # "scene": whether TEFA and TERN take their means over the "scene", or over each "tile"
    origin: tuple[int, int]  # (0, 0): row and column of the scene's first pixel in the grid of those windows


class SceneMap:
    """The map of one scene, made tile by tile by the very code that spinet_tf uses in process.

    Args:
        images: (time, height, width, bands) uint16, digital numbers.
        valid: (time, height, width) bool; None where pixels count as clear wherever they hold data.
        scale: how many times finer the answers are.
        concurrency: how many tiles are worked on at once, at most.
        progress: called after each tile with how many are done, and how many there are.
        frames: and all that follow, as in `MapOptions`.

    Attributes:
        tiles: all of them, in order.
        shares_means: whether tiles are to be answered with the means of the scene.

    Raises:
        ServingError: if the arrays are not as described.
        SpinetError: if an option is out of range.
    """

    def __init__(
        self,
        images: np.ndarray,
        valid: np.ndarray | None,
        scale: int,
        concurrency: int,
        progress: Progress | None,
        *,
        frames: Method = "all",
        count: int = 20,
        max_cloud: float = 0.25,
        tile: int = TILE,
        overlap: int | None = None,
        seam_free: bool | int = False,
        means: MeansOf = "scene",
        origin: tuple[int, int] = (0, 0),
    ):
        if images.dtype != np.uint16 or images.ndim != 4 or not images.size:
            raise ServingError(
                "Expected images as uint16 digital numbers of shape (time, height, width, bands). "
                f"Received: {images.dtype} of shape {images.shape}."
            )
        valid = np.asarray(images.any(axis=3)) if valid is None else valid
        if valid.dtype != bool or valid.shape != images.shape[:3]:
            raise ServingError(
                f"Expected valid as bool of shape {images.shape[:3]}, as images have. Received: {valid.dtype} of shape "
                f"{valid.shape}."
            )
        if concurrency < 1:
            raise ServingError(f"Expected a concurrency of 1 or more. Received: {concurrency}.")
        require_means(means)
        height, width = images.shape[1:3]
        if seam_free:
            window = WINDOW if seam_free is True else seam_free
            self._tiling = Tiling.anchored(height, width, scale, window, origin)
        else:
            self._tiling = Tiling.spread(height, width, scale, tile, overlap)
        self._series = Series.whole(images, valid)
        self._choice = FrameChoice(frames, count, max_cloud)
        self._mosaic = Mosaic(self._tiling)
        self._concurrency = concurrency
        self._progress = progress
        self._done = 0
        self._versions: set[int] = set()
        self._means: SceneMeans | None = None
        self.tiles: list[Tile] = self._tiling.tiles
        self.shares_means = means == "scene" and not seam_free and len(self.tiles) > 1

    def sample(self) -> Iterator[tuple[TileRequest, MeanSums]]:
        """Tiles by which the scene's means are found, each with what adds up the means of the tiles.

        Example:
            for request, sums in scene.sample():
                sums.add(client.find_means(request.images[None]), request.frames)
        """
        sums = MeanSums(len(self._series.valid))
        tiling = self._tiling.for_means()
        for tile in spread_out(tiling.tiles):
            request = cut_request(self._series, tiling, tile, self._choice)
            if request is not None:
                yield request, sums
            if sums.tiles == SAMPLE:
                break
        if sums.tiles:
            self._means = sums.means()

    def call(self, model: Model, request: TileRequest) -> Call[Prediction]:
        """What to ask a model about a tile: with the scene's means if the sample was looked at, else with its own."""
        images = request.images[None]
        if self._means is None:
            return calls.predict(model, images)
        return calls.predict_with_means(model, images, None, self._means.of_tiles([request.frames]))

    def ahead(self, start: Callable[[Tile], Started]) -> Iterator[Started]:
        """Start work on tiles ahead of their turn, and yield what was started in their order.

        Args:
            start: starts the work on one tile, and returns what is to be waited for.
        """
        started: deque[Started] = deque()
        for tile in self.tiles:
            if len(started) == self._concurrency:
                # Waited for before the next one starts.
                yield started.popleft()
            started.append(start(tile))
        yield from started

    def cut(self, tile: Tile) -> TileRequest | None:
        """What the network is asked about a tile; None where there is no data."""
        return cut_request(self._series, self._tiling, tile, self._choice)

    def add(self, tile: Tile, request: TileRequest | None, prediction: Prediction | None) -> None:
        """Blend in the answer to a tile."""
        if request is not None and prediction is not None:
            self._mosaic.add(tile, prediction.probabilities[0], request.counts)
            self._versions.add(prediction.version)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, len(self.tiles))

    def finish(self) -> np.ndarray:
        """The map, once all tiles were added."""
        if len(self._versions) > 1:
            warnings.warn(
                f"The map was made by the versions {', '.join(map(str, sorted(self._versions)))} of the model: the "
                "server changed them meanwhile. Ask for one with version=... and make it again.",
                stacklevel=3,
            )
        return self._mosaic.probability()
