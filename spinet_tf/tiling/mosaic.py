"""Answers to tiles, blended into one map."""

import numpy as np

from .errors import SpinetError
from .tiles import Tile, Tiling

# Weighted probabilities are summed as whole multiples of 2 ** -30: integers add up to the same sum in any order, so a
# map does not depend on how its tiles were grouped or which came first. The greatest sum, 1, is half of what fits.
_ONE = 2**30
# What rounding may add to a probability.
_TOLERANCE = 1e-3


class Mosaic:
    """Blends the network's answers to tiles, in any order, over a rectangle of the scene.

    Args:
        tiling: of the whole scene.
        rows: the rows of the scene that it covers, all of them when None.
        columns: the columns of the scene that it covers, all of them when None.

    Attributes:
        total: int32 (scale * height, scale * width), the weighted sum so far in units of 2 ** -30.
        counts: int16 (height, width), how many chosen frames show clear ground, the most that any tile has there; -1
            where none holds data.

    Example:
        mosaic = Mosaic(tiling)
        mosaic.add(tile, engine.predict(request.images[None], num_frames)[0], request.counts)
        mosaic.probability()
    """

    def __init__(self, tiling: Tiling, rows: slice | None = None, columns: slice | None = None):
        self.tiling = tiling
        self.rows = rows or slice(0, tiling.rows.length)
        self.columns = columns or slice(0, tiling.columns.length)
        shape = (self.rows.stop - self.rows.start, self.columns.stop - self.columns.start)
        self.total = np.zeros((tiling.scale * shape[0], tiling.scale * shape[1]), np.int32)
        self.counts = np.full(shape, -1, np.int16)

    def add(self, tile: Tile, answer: np.ndarray, counts: np.ndarray) -> None:
        """Blend in the answer to one tile, of which each may come once.

        Args:
            tile: one of the tiling, inside this mosaic.
            answer: float32 (scale * size, scale * size, 1), probabilities.
            counts: of the tile's request.

        Raises:
            SpinetError: if the answer has another shape, or is no probability.
        """
        tiling, scale = self.tiling, self.tiling.scale
        if answer.shape != tiling.answer_shape()[1:]:
            raise SpinetError(
                f"Expected an answer of shape {tiling.answer_shape()[1:]} to a tile from the model. "
                f"Received: {answer.shape}."
            )
        # Not the negation of this: comparisons with NaN are false.
        if not (answer.min() >= -_TOLERANCE and answer.max() <= 1 + _TOLERANCE):
            raise SpinetError(
                f"Expected probabilities from 0 to 1 from the model. Received: {answer.min()} to {answer.max()}."
            )
        rows, columns = tiling.inside(tile)
        top, left = (
            scale * (rows.start - tiling.rows.starts[tile.row]),
            scale * (columns.start - tiling.columns.starts[tile.column]),
        )
        weights = _ONE * tiling.rows.weights(tile.row, scale)[:, None] * tiling.columns.weights(tile.column, scale)
        height, width = weights.shape
        part = answer[top : top + height, left : left + width, 0].clip(0, 1)
        y, x = rows.start - self.rows.start, columns.start - self.columns.start
        self.total[scale * y : scale * y + height, scale * x : scale * x + width] += np.rint(weights * part).astype(
            np.int32
        )
        seen = self.counts[y : y + height // scale, x : x + width // scale]
        np.maximum(seen, counts, out=seen)

    def probability(self) -> np.ndarray:
        """The map once every tile was added: float32 (scale * height, scale * width), NaN where there is no data."""
        return probability(self.total, self.counts)


def probability(total: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The probability that the sums of a mosaic stand for, or of several that were added to each other.

    Args:
        total: int32 (scale * height, scale * width), as `Mosaic.total`.
        counts: int16 (height, width), as `Mosaic.counts`, the greatest of several.

    Returns:
        float32 (scale * height, scale * width), NaN where no chosen frame holds data.
    """
    result = (total / _ONE).astype(np.float32)
    scale = total.shape[0] // counts.shape[0]
    # The network answers everywhere; where it was shown nothing, the answer means nothing.
    result[(counts < 0).repeat(scale, axis=0).repeat(scale, axis=1)] = np.nan
    return result
