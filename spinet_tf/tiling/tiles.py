"""Where tiles lie, and how much each counts where they overlap."""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from .errors import SpinetError

# Large enough that means over a tile differ little from those over the scene: measured by tests.benchmarks.seams.
TILE = 128
# Fine pixels from one answer of the fusion block's coarsest branch to the next: tiles that begin at multiples of it see
# the same coarse pixels as their neighbours.
STRIDE = 8
# Side of the surroundings by which the frames of a tile are chosen: the scenes of Valsesia & Magli, IGARSS 2022, in
# which all tiles then have the same frames.
SURROUNDINGS = 500
# Side of the windows of the seam-free mode: the patches of Valsesia & Magli, IGARSS 2022.
WINDOW = 32


@dataclass(frozen=True)
class Axis:
    """Tiles of one size along one axis of a scene. They may reach beyond its ends, where the scene is reflected.

    Attributes:
        length: pixels of the scene.
        size: pixels of a tile.
        overlap: pixels over which a tile's weight rises from its edge.
        starts: the first pixel of each tile, ascending.

    Example:
        Axis.spread(500, tile=64, overlap=16)
    """

    length: int
    size: int
    overlap: int
    starts: tuple[int, ...]

    @classmethod
    def spread(cls, length: int, tile: int, overlap: int, step: int = 1) -> "Axis":
        """As few tiles as cover the axis, none larger than `tile`, spread evenly and sharing `overlap` pixels or more.

        They reach beyond both ends by half the overlap, and are made as small as their number allows. They begin at
        multiples of `step`, and have multiples of it for sizes, where there is room for that. A scene no longer than a
        tile is one tile, without anything beyond its ends.
        """
        if length <= tile:
            return cls(length, length, overlap, (0,))
        if tile // step * step <= _multiple(overlap, step):
            step = 1
        tile, overlap, margin = tile // step * step, _multiple(overlap, step), _multiple(overlap // 2, step)
        extended = _multiple(length + 2 * margin, step)
        count = math.ceil((extended - overlap) / (tile - overlap))
        size = _multiple(math.ceil((extended - overlap) / count), step) + overlap
        starts = (number * (extended - size) // (count - 1) // step * step - margin for number in range(count))
        return cls(length, size, overlap, tuple(starts))

    @classmethod
    def anchored(cls, length: int, window: int, origin: int) -> "Axis":
        """Tiles of `window` pixels at every half window of an endless grid; the scene begins at its pixel `origin`."""
        step = window // 2
        first = (origin - window) // step * step + step
        return cls(length, window, step, tuple(range(first - origin, length, step)))

    def inside(self, number: int) -> slice:
        """The pixels of the scene that a tile covers."""
        return slice(max(self.starts[number], 0), min(self.starts[number] + self.size, self.length))

    def around(self, number: int, size: int) -> slice:
        """`size` pixels of the scene around a tile, fewer in a shorter scene, or those inside if they are more."""
        own = self.inside(number)
        more = max(min(size, self.length) - (own.stop - own.start), 0)
        start = min(max(own.start - more // 2, 0), self.length - (own.stop - own.start) - more)
        return slice(start, start + own.stop - own.start + more)

    def reflected(self, number: int) -> np.ndarray:
        """Which pixel of the scene each of a tile's pixels shows, int64 (size,)."""
        # There and back again, without repeating the pixels at the ends.
        period = max(2 * (self.length - 1), 1)
        places = np.arange(self.starts[number], self.starts[number] + self.size) % period
        return np.minimum(places, period - places) if self.length > 1 else np.zeros(self.size, np.int64)

    def weights(self, number: int, scale: int) -> np.ndarray:
        """A tile's weight at each fine pixel of its `inside`, float64; those of all tiles sum to one at every pixel."""
        own = self.inside(number)
        ramp = self._ramp(scale)
        total = np.zeros((own.stop - own.start) * scale)
        for other, start in enumerate(self.starts):
            if start < own.stop and start + self.size > own.start:
                low, high = max(start, own.start), min(start + self.size, own.stop)
                part = ramp[(low - start) * scale : (high - start) * scale]
                total[(low - own.start) * scale : (high - own.start) * scale] += part
                if other == number:
                    weights = part
        return weights / total

    def _ramp(self, scale: int) -> np.ndarray:
        """What a tile counts before its neighbours are known: a squared sine up, ones, and down again."""
        size = scale * self.size
        centres = np.arange(size) + 0.5
        # The distance to the nearer edge as a fraction of the overlap; squares of sine and cosine sum to one.
        part = np.minimum(np.minimum(centres, size - centres) / max(scale * self.overlap, 0.5), 1)
        return np.sin(np.pi / 2 * part) ** 2


def _multiple(number: int, step: int) -> int:
    """The least multiple of `step` that is no less than `number`."""
    return -(-number // step) * step


@dataclass(frozen=True)
class Tile:
    """One tile of a `Tiling`: what the network sees at once.

    Attributes:
        row: its number among `tiling.rows.starts`.
        column: its number among `tiling.columns.starts`.
    """

    row: int
    column: int


@dataclass(frozen=True)
class Tiling:
    """The tiles of a scene. All have one size.

    Attributes:
        rows: along y.
        columns: along x.
        scale: how many times finer the network's answer is than its input.
        surroundings: the side of the square around a tile, in pixels of the scene, by which its frames are chosen; the
            tile itself where that is larger.

    Example:
        tiling = Tiling.spread(500, 500, scale=4)
        for tile in tiling.tiles:
            request = cut_request(Series.whole(images, valid), tiling, tile, FrameChoice())
    """

    rows: Axis
    columns: Axis
    scale: int
    surroundings: int = 0

    @classmethod
    def spread(cls, height: int, width: int, scale: int, tile: int = TILE, overlap: int | None = None) -> "Tiling":
        """Tiles of at most `tile` pixels a side that share `overlap` pixels or more with each neighbour.

        Args:
            height: of the scene in pixels.
            width: of the scene in pixels.
            scale: how many times finer the network's answer is.
            tile: the greatest side of a tile; a scene no longer than that is not divided along that axis.
            overlap: the least overlap of neighbours, over which they are blended, a quarter of a tile when None; a
                scene's edges are reflected by half of it.

        Raises:
            SpinetError: if the tile does not exceed the overlap.
        """
        if overlap is None:
            overlap = tile // 4
        if not 0 <= overlap < tile:
            raise SpinetError(
                f"Expected a tile size above the overlap, and an overlap of 0 or more. Received: tile {tile}, "
                f"overlap {overlap}."
            )
        step = STRIDE // math.gcd(STRIDE, scale)
        rows, columns = (Axis.spread(length, tile, overlap, step) for length in (height, width))
        return cls(rows, columns, scale, SURROUNDINGS)

    @classmethod
    def anchored(
        cls, height: int, width: int, scale: int, window: int = WINDOW, origin: tuple[int, int] = (0, 0)
    ) -> "Tiling":
        """Windows of a fixed size at fixed places, so that a pixel's answer does not depend on where the scene ends.

        Args:
            height: of the scene in pixels.
            width: of the scene in pixels.
            scale: how many times finer the network's answer is.
            window: side of the windows, the patch that the model was trained on; they overlap by half.
            origin: the row and column of the scene's first pixel in the endless grid that the windows are fixed to.

        Raises:
            SpinetError: if the window is odd or less than 2.
        """
        if window < 2 or window % 2:
            raise SpinetError(f"Expected windows of an even number of pixels, such as {WINDOW}. Received: {window}.")
        row, column = origin
        return cls(Axis.anchored(height, window, row), Axis.anchored(width, window, column), scale)

    def for_means(self) -> "Tiling":
        """Tiles that cover the scene about once, larger by half, for at their edges means are a little off."""
        size = 3 * max(self.rows.size, self.columns.size) // 2
        return Tiling.spread(self.rows.length, self.columns.length, self.scale, size, 0)

    @functools.cached_property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        pairs = itertools.product(range(len(self.rows.starts)), range(len(self.columns.starts)))
        return [Tile(row, column) for row, column in pairs]

    def inside(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of the scene that a tile covers."""
        return self.rows.inside(tile.row), self.columns.inside(tile.column)

    def around(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of the scene by which the frames of a tile are chosen."""
        return self.rows.around(tile.row, self.surroundings), self.columns.around(tile.column, self.surroundings)

    def answer_shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """The shape of the network's answer to a batch of tiles."""
        return (batch, self.scale * self.rows.size, self.scale * self.columns.size, 1)
