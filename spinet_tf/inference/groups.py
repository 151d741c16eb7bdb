"""Groups of neighbouring tiles: what is read, computed and kept at once."""

import itertools
from dataclasses import dataclass

from spinet_tf.tiling import Axis, Tile, Tiling

# The longest side of what a group of tiles covers, in pixels of the scene.
SIDE = 512
# The most that a group's images may take, in bytes.
MEMORY = 128 << 20


@dataclass(frozen=True)
class Span:
    """Neighbouring tiles along one axis.

    Attributes:
        tiles: their numbers along the axis.
        inside: the pixels of the scene that they cover; neighbouring spans share some.
        shown: the pixels of the scene that must be read for them: those inside, and what is reflected.
    """

    tiles: range
    inside: slice
    shown: slice

    @classmethod
    def of(cls, axis: Axis, tiles: range) -> "Span":
        """The span of some tiles."""
        shown = [axis.reflected(number) for number in tiles]
        return cls(
            tiles,
            slice(axis.inside(tiles[0]).start, axis.inside(tiles[-1]).stop),
            slice(int(min(pixels.min() for pixels in shown)), int(max(pixels.max() for pixels in shown)) + 1),
        )


@dataclass(frozen=True)
class TileGroup:
    """A rectangle of tiles.

    Attributes:
        rows: along y.
        columns: along x.
    """

    rows: Span
    columns: Span

    @property
    def name(self) -> str:
        """What tells it from the other groups of a tiling."""
        return f"{self.rows.tiles[0]:04}-{self.columns.tiles[0]:04}"

    @property
    def tiles(self) -> list[Tile]:
        """Its tiles, row by row."""
        return [Tile(row, column) for row, column in itertools.product(self.rows.tiles, self.columns.tiles)]

    def around(self, tiling: Tiling) -> tuple[slice, slice]:
        """The rows and columns of the scene by which the frames of its tiles are chosen."""
        first = Tile(self.rows.tiles[0], self.columns.tiles[0])
        last = Tile(self.rows.tiles[-1], self.columns.tiles[-1])
        (top, left), (bottom, right) = tiling.around(first), tiling.around(last)
        return slice(top.start, bottom.stop), slice(left.start, right.stop)

    def __str__(self) -> str:
        rows, columns = self.rows.shown, self.columns.shown
        return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"


def group_tiles(tiling: Tiling, side: int = SIDE) -> list[TileGroup]:
    """All tiles of a scene in groups that cover at most `side` pixels a side, but at least one tile, row by row.

    Example:
        group_tiles(Tiling.spread(10980, 10980, scale=4))
    """
    return [
        TileGroup(rows, columns)
        for rows, columns in itertools.product(_spans(tiling.rows, side), _spans(tiling.columns, side))
    ]


def fitting_side(dates: int, bands: int) -> int:
    """The side of groups whose images of all dates take at most `MEMORY`, and at most `SIDE`."""
    return min(SIDE, int((MEMORY / (2 * dates * bands)) ** 0.5))


def _spans(axis: Axis, side: int) -> list[Span]:
    numbers = range(len(axis.starts))
    spans, first = [], 0
    for number in numbers:
        if axis.starts[number] + axis.size - axis.starts[first] > side and number > first:
            spans.append(numbers[first:number])
            first = number
    spans.append(numbers[first:])
    return [Span.of(axis, tiles) for tiles in spans]
