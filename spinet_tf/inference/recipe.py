"""How a map is made."""

import math
from dataclasses import dataclass

from spinet_tf.inference.grid import Grid
from spinet_tf.tiling import WINDOW, FrameChoice, SceneMeans, Tiling


@dataclass(frozen=True)
class Recipe:
    """What turns a scene into a map, next to the network.

    Attributes:
        tiling: the tiles of the scene.
        choice: how the frames of each tile are chosen.
        batch: how many tiles the network sees at once; as many as memory allows when None.
        means: the scene's, which all tiles share; each has its own when None.
        uncertainty: whether the network's own uncertainty is blended beside the probability.
    """

    tiling: Tiling
    choice: FrameChoice
    batch: int | None = None
    means: SceneMeans | None = None
    uncertainty: bool = False


def make_tiling(grid: Grid, scale: int, tile: int, overlap: int | None, seam_free: bool | int) -> Tiling:
    """The tiles of a scene.

    Args:
        grid: the scene's.
        scale: how many times finer the network's answer is.
        tile: the greatest side of a tile.
        overlap: the least overlap of neighbouring tiles; a quarter of a tile when None.
        seam_free: the side of windows at fixed places of the CRS, used instead; true for `WINDOW`.

    Raises:
        SpinetError: for impossible sizes.
    """
    if not seam_free:
        return Tiling.spread(grid.height, grid.width, scale, tile, overlap)
    window = WINDOW if seam_free is True else seam_free
    return Tiling.anchored(grid.height, grid.width, scale, window, _absolute_origin(grid))


def _absolute_origin(grid: Grid) -> tuple[int, int]:
    """The row and column of a grid's first pixel if pixels are counted from the origin of its CRS."""
    if grid.transform is None:
        return 0, 0
    row, column = grid.transform.f / grid.transform.e, grid.transform.c / grid.transform.a
    # Where grids are shifted against the CRS, then by nothing, halves or other simple fractions: this one is none, so
    # that rounding errors cannot decide.
    return math.floor(row + 0.377), math.floor(column + 0.377)
