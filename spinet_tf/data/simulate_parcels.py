"""The map of a simulated scene: blocks of fields, villages, woods and water, with roads and hedges between."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spinet_tf.data.simulate_covers import CROPS, CULTIVATED, NAMES, OTHERS

BLOCK_METRES = 230.0


class Landscape(NamedTuple):
    """A map of parcels.

    parcel: int32 (height, width), the parcel of each pixel.
    cover: int64 (parcels,), indices into `simulate_covers.NAMES`.
    """

    parcel: np.ndarray
    cover: np.ndarray


def draw_landscape(
    rng: np.random.Generator, shape: tuple[int, int], metres: float, visible: tuple[slice, slice]
) -> Landscape:
    """Draw a mosaic of parcels of which between a third and 56 % of the visible area is cultivated.

    Land is parted into blocks, the Voronoi cells of jittered seeds some 230 m apart. Each block is cut into strips of
    its own direction, width and length, as fields are in central Europe: strips of 12 to 90 m, blocks of 60 to 350 m.
    A road, a hedge or a grass verge of 2.5 to 7 m runs along some borders of blocks, and a grass balk along fields in
    some blocks.

    Args:
        rng: draws the map.
        shape: rows and columns.
        metres: the size of a pixel.
        visible: the part of the map in which the share of cultivated land is counted.

    Returns:
        The map, and the land cover of each parcel.
    """
    y, x = np.indices(shape, "float32") * metres
    # Borders drawn by people and brooks are not quite straight.
    y += 8 * smooth_noise(rng, shape, 90 / metres)
    x += 8 * smooth_noise(rng, shape, 90 / metres)
    block, neighbour, border = _blocks(rng, y, x)
    count = 1 + max(block.max(), neighbour.max())

    angle, width = rng.uniform(0, np.pi, count), np.clip(rng.lognormal(3.65, 0.5, count), 12, 90)
    length = np.clip(rng.lognormal(5.1, 0.4, count), 60, 350)
    across = x * np.cos(angle)[block] + y * np.sin(angle)[block]
    along = y * np.cos(angle)[block] - x * np.sin(angle)[block]
    across = across / width[block] + rng.uniform(0, 1, count)[block]
    across += 0.33 * np.sin(2 * across)  # a monotone warp: neighbouring strips differ in width up to fivefold
    strip = np.floor(across)
    along = along / length[block] + rng.uniform(0, 1, count)[block]

    key = (block * 4096 + strip.astype("int64") % 4096) * 4096 + np.floor(along).astype("int64") % 4096
    keys, parcel = np.unique(key, return_inverse=True)
    parcel = parcel.reshape(shape)
    cover = _covers(rng, keys // 4096**2, np.bincount(parcel[visible].ravel(), minlength=len(keys)))

    # Lines are three more parcels.
    parcel, cover = parcel.astype("int32"), np.append(cover, [NAMES.index(name) for name in ("road", "hedge", "verge")])
    kind = rng.choice(4, (count, count), p=[0.30, 0.12, 0.18, 0.40])
    line = np.triu(kind)[np.minimum(block, neighbour), np.maximum(block, neighbour)]
    half_width = np.array([2.5, 3.5, 1.5, 0.0])[line]
    parcel = np.where(border < half_width, len(keys) + line, parcel).astype("int32")
    balk = (rng.random(count) < 0.35)[block] & (np.abs(across - np.rint(across)) * width[block] < metres / 2)
    parcel[balk & CULTIVATED[cover][parcel]] = len(keys) + 2
    return Landscape(parcel, cover)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> np.ndarray:
    """Random float32 field of mean 0 and deviation 1 whose features are about `wavelength` pixels across."""
    step = max(1.0, wavelength / 4)
    coarse = [int(np.ceil(length / step)) + 4 for length in shape]
    field = ndimage.gaussian_filter(rng.normal(size=coarse), 1.3)
    field = ndimage.zoom(field, step, order=3 if step > 1 else 0)[: shape[0], : shape[1]]
    return ((field - field.mean()) / field.std()).astype("float32")


def _blocks(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The block of each pixel, the next one, and the distance in metres to the border between them."""
    rows = np.arange(y.min() - 2 * BLOCK_METRES, y.max() + 2 * BLOCK_METRES, BLOCK_METRES)
    columns = np.arange(x.min() - 2 * BLOCK_METRES, x.max() + 2 * BLOCK_METRES, BLOCK_METRES)
    seeds = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-0.45, 0.45, seeds.shape) * BLOCK_METRES
    distance, nearest = cKDTree(seeds).query(np.stack([y, x], axis=-1), k=2)
    block, neighbour = nearest[..., 0], nearest[..., 1]
    apart = np.linalg.norm(seeds[block] - seeds[neighbour], axis=-1)
    return block, neighbour, (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * apart)


def _covers(rng: np.random.Generator, block: np.ndarray, area: np.ndarray) -> np.ndarray:
    """A land cover for each parcel; the blocks most given to crops are cultivated, up to a drawn share of the area."""
    blocks = block.max() + 1
    wanted = rng.uniform(0.36, 0.56) * area.sum()
    order = np.argsort(rng.normal(0, 1, blocks)[block] + rng.normal(0, 0.7, len(block)))
    reached = np.cumsum(area[order])
    cultivated = np.empty(len(block), bool)
    cultivated[order] = np.abs(reached - wanted).argmin() >= np.arange(len(block))

    def drawn(kinds: dict, count: int) -> np.ndarray:
        shares = np.array([cover.share for cover in kinds.values()])
        return rng.choice([NAMES.index(name) for name in kinds], count, p=shares / shares.sum())

    # Crops differ from field to field; woods, villages and water fill blocks, and so does most grass.
    other = np.where(rng.random(len(block)) < 0.8, drawn(OTHERS, blocks)[block], NAMES.index("meadow"))
    return np.where(cultivated, drawn(CROPS, len(block)), other)
