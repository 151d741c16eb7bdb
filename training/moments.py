"""How bright bands are: mean and standard deviation, exact in any order of adding."""

import dataclasses
import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from spinet_tf.bands import QUANTIFICATION

# One digital number: no band varies less.
_LEAST_STD = 1 / QUANTIFICATION


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over pixels from which mean and standard deviation follow.

    They are whole numbers, so it does not matter in which order or in how many parts pixels are added.

    Attributes:
        count: how many pixels.
        total: for each band, the sum of their digital numbers.
        squares: for each band, the sum of the squares.
    """

    count: int
    total: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, bands: np.ndarray, valid: np.ndarray) -> "Moments":
        """The moments of one frame: uint16 (band, y, x) where `valid` (y, x) is true."""
        # Fewer than 2**32 pixels cannot overflow.
        values = bands[:, valid].astype("uint64")
        total, squares = values.sum(axis=1), np.einsum("bn,bn->b", values, values)
        return cls(values.shape[1], tuple(total.tolist()), tuple(squares.tolist()))

    @classmethod
    def sum(cls, parts: Iterable["Moments"]) -> "Moments":
        """The moments of all pixels of at least one part."""
        counts, totals, squares = zip(*map(dataclasses.astuple, parts), strict=True)
        return cls(sum(counts), tuple(map(sum, zip(*totals, strict=True))), tuple(map(sum, zip(*squares, strict=True))))

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each band, reflectance. There must be a pixel."""
        means = [Fraction(total, self.count) for total in self.total]
        variances = [Fraction(square, self.count) - mean**2 for square, mean in zip(self.squares, means, strict=True)]
        return (
            [float(mean / QUANTIFICATION) for mean in means],
            [max(math.sqrt(variance) / QUANTIFICATION, _LEAST_STD) for variance in variances],
        )
