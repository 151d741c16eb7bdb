"""From a raster of classes to polygons in pixels, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.features import shapes
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spinet_tf.inference.geotiff import read_part
from spinet_tf.progress import track


@dataclass(frozen=True)
class Regions:
    """Connected regions of pixels, one element of every array each.

    Attributes:
        outline: polygons in pixels: x is the column, y the row, whole numbers are the corners of pixels.
        value: their class.
        pixels: how many pixels they have.
        total: the sum of these pixels' probability.
    """

    outline: np.ndarray
    value: np.ndarray
    pixels: np.ndarray
    total: np.ndarray


def trace(
    classes: DatasetReader, probability: DatasetReader, values: Sequence[int], smallest: float, side: int = 2048
) -> Regions:
    """Find the regions of equal class, whose pixels are connected along their sides.

    Blocks of the raster are traced one after the other, and pieces that touch across the blocks' borders are united
    at the end. Memory grows with the length of the outlines, not with the raster.

    Args:
        classes: an open raster of classes.
        probability: an open raster of the same size; its scale is applied.
        values: the classes to trace.
        smallest: regions of fewer pixels are left out.
        side: of a block, in pixels.

    Returns:
        The regions; other blocks give the same ones, in another order.

    Example:
        with rasterio.open("class.tif") as classes, rasterio.open("map.tif") as probability:
            trace(classes, probability, values=(1,), smallest=160).outline
    """
    pieces: list[Regions] = []
    links: list[np.ndarray] = []
    count = 0
    # Which piece ends at every column of the blocks above, and at every row of the block to the left; -1 is none.
    above = np.full(classes.width, -1)
    for window in track(_blocks(classes, side), "Tracing polygons"):
        labels, value = _label(read_part(classes, window), values)
        shown = np.where(labels > 0, read_part(probability, window), 0) * probability.scales[0]
        pixels = np.bincount(labels.ravel(), minlength=len(value))
        total = np.bincount(labels.ravel(), weights=shown.ravel(), minlength=len(value))

        kept = pixels >= smallest
        for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            kept[border] = True
        kept[0] = False
        number = np.full(len(value), -1)
        number[kept] = count + np.arange(kept.sum())
        count += kept.sum()
        pieces.append(Regions(_outlines(labels, kept, window), value[kept], pixels[kept], total[kept]))

        if window.col_off == 0:
            left = np.full(window.height, -1)
        columns = slice(window.col_off, window.col_off + window.width)
        links += [np.stack([above[columns], number[labels[0]]]), np.stack([left, number[labels[:, 0]]])]
        above[columns] = number[labels[-1]]
        left = number[labels[:, -1]]
    everything = Regions(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in vars(pieces[0])))
    united = _unite(everything, np.unique(np.concatenate(links, axis=1), axis=1))
    return _select(united, united.pixels >= smallest)


def _blocks(raster: DatasetReader, side: int) -> list[Window]:
    return [
        Window(x, y, min(side, raster.width - x), min(side, raster.height - y))
        for y in range(0, raster.height, side)
        for x in range(0, raster.width, side)
    ]


def _label(classes: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Number the regions from 1, and return with them the class of each number."""
    labels = np.zeros(classes.shape, np.int32)
    value = [np.zeros(1, np.uint8)]
    for wanted in values:
        found, count = ndimage.label(classes == wanted)
        labels += np.where(found > 0, found + sum(map(len, value)) - 1, 0)
        value.append(np.full(count, wanted, np.uint8))
    return labels, np.concatenate(value)


def _outlines(labels: np.ndarray, kept: np.ndarray, window: Window) -> np.ndarray:
    """The polygons of the labels that are kept, in their order."""
    position = Affine.translation(window.col_off, window.row_off)
    corners: list[tuple[float, float]] = []
    rings, polygons, order = [0], [0], []
    for outline, label in shapes(labels, mask=kept[labels], connectivity=4, transform=position):
        for ring in outline["coordinates"]:
            corners += ring
            rings.append(len(corners))
        polygons.append(len(rings) - 1)
        order.append(label)
    ragged = np.array(corners).reshape(-1, 2), (np.array(rings), np.array(polygons))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, *ragged)[np.argsort(order)]


def _unite(pieces: Regions, links: np.ndarray) -> Regions:
    """Make one region of the pieces that touch.

    Args:
        pieces: the regions of all blocks.
        links: (2, n) numbers of neighbours across a border; -1 is none. They touch where their class is the same.
    """
    links = links[:, (links >= 0).all(axis=0)]
    links = links[:, pieces.value[links[0]] == pieces.value[links[1]]]
    count = len(pieces.value)
    graph = coo_array((np.ones(links.shape[1], bool), (links[0], links[1])), shape=(count, count))
    regions, member = connected_components(graph, directed=False)
    order = np.argsort(member, kind="stable")
    first = np.searchsorted(member[order], np.arange(regions))
    outline = pieces.outline[order[first]]
    sizes = np.diff(first, append=count)
    for region in np.flatnonzero(sizes > 1):
        parts = pieces.outline[order[first[region] : first[region] + sizes[region]]]
        # A corner that only the border of a block made is none.
        outline[region] = shapely.simplify(shapely.union_all(parts), 0)
    return Regions(
        outline,
        pieces.value[order[first]],
        np.bincount(member, weights=pieces.pixels, minlength=regions).astype(np.int64),
        np.bincount(member, weights=pieces.total, minlength=regions),
    )


def _select(regions: Regions, chosen: np.ndarray) -> Regions:
    return Regions(*(values[chosen] for values in vars(regions).values()))
