"""The map out of its parts."""

from collections.abc import Iterator, Sequence

import numpy as np

from spinet_tf.inference.geotiff import TILE, Block
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.parts import Parts
from spinet_tf.tiling import Tiling
from spinet_tf.tiling.mosaic import probability


def assemble(
    parts: Parts,
    groups: Sequence[TileGroup],
    tiling: Tiling,
    layers: Sequence[str],
    side: int = TILE,
    own_uncertainty: bool = False,
) -> Iterator[Block]:
    """Put the parts of a map together, rectangle by rectangle, in memory that does not grow with the map.

    Args:
        parts: those of all groups.
        groups: all groups of the tiling.
        tiling: of the scene.
        layers: what a block holds, of "probability", "uncertainty" and "frames".
        side: of the rectangles, in pixels of the scene; whole tiles of the file that they are written to.
        own_uncertainty: whether "uncertainty" is the network's own; else it is the entropy of the probability.

    Yields:
        Blocks that cover the map once, row by row.
    """
    height, width = tiling.rows.length, tiling.columns.length
    for y in range(0, height, side):
        rows = slice(y, min(y + side, height))
        row_groups = [group for group in groups if _shared(group.rows.inside, rows)]
        for x in range(0, width, side):
            columns = slice(x, min(x + side, width))
            yield _block(parts, row_groups, tiling.scale, layers, own_uncertainty, rows, columns)


def _block(
    parts: Parts,
    groups: Sequence[TileGroup],
    scale: int,
    layers: Sequence[str],
    own_uncertainty: bool,
    rows: slice,
    columns: slice,
) -> Block:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    blend_uncertainty = own_uncertainty and "uncertainty" in layers
    total, uncertainty = (np.zeros((scale * height, scale * width), np.int32) for _ in range(2))
    counts = np.full((height, width), -1, np.int16)
    for group in groups:
        y, x = _shared(group.rows.inside, rows), _shared(group.columns.inside, columns)
        if not x or not y:
            continue
        top, left = group.rows.inside.start, group.columns.inside.start
        place = group.name, _moved(y, top), _moved(x, left), scale
        added, seen = parts.window(*place)
        y, x = _moved(y, rows.start), _moved(x, columns.start)
        fine = np.s_[scale * y.start : scale * y.stop, scale * x.start : scale * x.stop]
        total[fine] += added
        if blend_uncertainty:
            uncertainty[fine] += parts.uncertainty(*place)
        counts[y, x] = np.maximum(counts[y, x], seen)
    values = {"probability": probability(total, counts)}
    if blend_uncertainty:
        # Weighted and summed as probabilities are.
        values["uncertainty"] = probability(uncertainty, counts)
    elif "uncertainty" in layers:
        values["uncertainty"] = entropy(values["probability"])
    if "frames" in layers:
        values["frames"] = counts.clip(0).astype(np.uint16)
    return Block(scale * rows.start, scale * columns.start, values)


def entropy(probability: np.ndarray) -> np.ndarray:
    """The uncertainty that a probability states: binary entropy in bits, 0 sure to 1 undecided; float32, NaN kept."""
    p = probability.astype(np.float64)
    # 0 log 0 is 0.
    sure = (p == 0) | (p == 1)
    p[sure] = 0.5
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    bits[sure] = 0
    return bits.astype(np.float32)


def _shared(first: slice, second: slice) -> slice | None:
    start, stop = max(first.start, second.start), min(first.stop, second.stop)
    return slice(start, stop) if start < stop else None


def _moved(pixels: slice, origin: int) -> slice:
    return slice(pixels.start - origin, pixels.stop - origin)
