"""The map of a simulated scene: blocks of fields, settlements, woods and water, with roads and hedges between."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from spinet_tf.data.simulate_covers import CROPS, CULTIVATED, LINES, NAMES, OTHERS, SETTLED
from spinet_tf.data.simulate_region import Region


class Landscape(NamedTuple):
    """A map of parcels.

    parcel: int32 (height, width), the parcel of each pixel.
    cover: int64 (parcels,), indices into `simulate_covers.NAMES`.
    """

    parcel: np.ndarray
    cover: np.ndarray


def draw_landscape(
    rng: np.random.Generator, shape: tuple[int, int], metres: float, visible: tuple[slice, slice], region: Region
) -> Landscape:
    """Draw a mosaic of parcels.

    Land is parted into blocks, the Voronoi cells of jittered seeds. Each block is cut into strips of its own direction,
    width and length, as fields are in central Europe; in settlements the strips are lots with houses, yards and
    gardens. A road, a hedge or a grass verge of 3 to 7 m runs along some borders of blocks, a grass balk narrower than
    any pixel along fields in some blocks, and a river with its bank through one scene in four. Settlements, farmland
    and woods gather: how far each block is given to them varies smoothly over the land.

    Args:
        rng: draws the map.
        shape: rows and columns.
        metres: the size of a pixel.
        visible: the part of the map in which the shares of cultivated and settled land are counted.
        region: those shares, and the size and shape of fields.

    Returns:
        The map, and the land cover of each parcel.
    """
    y, x = np.indices(shape, "float32") * metres
    # Borders drawn by people and brooks are not quite straight.
    y += region.wobble_metres * smooth_noise(rng, shape, 90 / metres)
    x += region.wobble_metres * smooth_noise(rng, shape, 90 / metres)
    side = 100 * np.sqrt(region.field_hectares)
    seeds, block, neighbour, border = _blocks(rng, y, x, float(np.clip(2.2 * side, 100, 450)))
    count = len(seeds)
    area = np.bincount(block[visible].ravel(), minlength=count)
    settled = _most(_zones(rng, seeds, region.mosaic_metres) + 0.3 * rng.normal(size=count), area, region.settled)

    angle = rng.uniform(0, np.pi) + rng.choice([rng.normal(0, 0.3, count), rng.uniform(0, np.pi, count)])
    size = side * rng.lognormal(0, 0.35, count)
    shape_ratio = np.sqrt(region.elongation * rng.lognormal(0, 0.25, count))
    width, length = np.clip(size / shape_ratio, 6, 300), np.clip(size * shape_ratio, 30, 700)
    lots = region.lot_metres * rng.lognormal(0, 0.3, count)
    width, length = np.where(settled, lots, width), np.where(settled, 1.8 * lots, length)
    across = x * np.cos(angle)[block] + y * np.sin(angle)[block]
    along = y * np.cos(angle)[block] - x * np.sin(angle)[block]
    across = across / width[block] + rng.uniform(0, 1, count)[block]
    across += 0.33 * np.sin(2 * across)  # a monotone warp: neighbouring strips differ in width up to fivefold
    strip = np.floor(across).astype("int64")
    # Strips do not end side by side.
    along = along / length[block] + rng.uniform(0, 1, count)[block] + 0.37 * (strip % 3)

    key = (block * 4096 + strip % 4096) * 4096 + np.floor(along).astype("int64") % 4096
    keys, parcel = np.unique(key, return_inverse=True)
    parcel = parcel.reshape(shape)
    area = np.bincount(parcel[visible].ravel(), minlength=len(keys))
    cover = _covers(rng, keys // 4096**2, area, seeds, settled, region)

    # Lines are a parcel each.
    parcel, cover = parcel.astype("int32"), np.append(cover, [NAMES.index(name) for name in LINES])
    road, hedge, verge, river = len(keys) + np.arange(len(LINES))
    kind = np.triu(rng.choice(4, (count, count), p=[0.30, 0.14, 0.18, 0.38]))
    kind = kind[np.minimum(block, neighbour), np.maximum(block, neighbour)]
    kind[settled[block]] = 0
    half_width = np.array([2.8, 3.5, 1.8, 0.0])[kind]
    parcel = np.where(border < half_width, np.array([road, hedge, verge, river], "int32")[kind], parcel)
    balk = (rng.random(count) < 0.35)[block] & (np.abs(across - np.rint(across)) * width[block] < metres / 2)
    parcel[balk & CULTIVATED[cover][parcel]] = verge
    if rng.random() < 0.25:
        distance = _river(rng, y, x)
        bank = rng.uniform(0, 8)
        parcel[distance < bank] = rng.choice([hedge, verge])
        parcel[distance < 0] = river
    return Landscape(parcel, cover)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> np.ndarray:
    """Random float32 field of mean 0 and deviation 1 whose features are about `wavelength` pixels across."""
    step = max(1.0, wavelength / 4)
    coarse = [int(np.ceil(length / step)) + 4 for length in shape]
    field = ndimage.gaussian_filter(rng.normal(size=coarse), 1.3)
    field = ndimage.zoom(field, step, order=3 if step > 1 else 0)[: shape[0], : shape[1]]
    return ((field - field.mean()) / field.std()).astype("float32")


def _blocks(
    rng: np.random.Generator, y: np.ndarray, x: np.ndarray, apart: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Seeds (blocks, 2); the block of each pixel, the next one, and the metres to the border between them."""
    rows = np.arange(y.min() - 2 * apart, y.max() + 2 * apart, apart)
    columns = np.arange(x.min() - 2 * apart, x.max() + 2 * apart, apart)
    seeds = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-0.45, 0.45, seeds.shape) * apart
    distance, nearest = cKDTree(seeds).query(np.stack([y, x], axis=-1), k=2)
    block, neighbour = nearest[..., 0], nearest[..., 1]
    between = np.linalg.norm(seeds[block] - seeds[neighbour], axis=-1)
    return seeds, block, neighbour, (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * between)


def _zones(rng: np.random.Generator, seeds: np.ndarray, wavelength: float) -> np.ndarray:
    """A smooth random value of deviation 1 at each seed: a sum of plane waves."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 8))
    waves = 2 * np.pi / wavelength * rng.uniform(0.4, 1, 8) * np.stack([np.sin(angle), np.cos(angle)])
    return np.cos(seeds @ waves + phase).sum(axis=1) / 2


def _most(score: np.ndarray, area: np.ndarray, share: float) -> np.ndarray:
    """Which things of the highest score have together about this share of the area."""
    order = np.argsort(-score)
    reached = np.append(0, np.cumsum(area[order]))
    chosen = np.zeros(len(score), bool)
    chosen[order[: np.abs(reached - share * reached[-1]).argmin()]] = True
    return chosen


def _covers(
    rng: np.random.Generator,
    block: np.ndarray,
    area: np.ndarray,
    seeds: np.ndarray,
    settled: np.ndarray,
    region: Region,
) -> np.ndarray:
    """A land cover for each parcel, given its block and its area."""
    count = len(seeds)
    fields = ~settled[block]
    score = _zones(rng, seeds, region.mosaic_metres) + 0.7 * rng.normal(size=count)
    score = score[block] + 0.7 * rng.normal(size=len(block))
    share = min(region.cultivated * area.sum() / max(area[fields].sum(), 1), 0.95)
    cultivated = _most(np.where(fields, score, -np.inf), area * fields, share)
    seen = np.flatnonzero(fields & (area > 0))
    if len(seen) and not cultivated[seen].any():
        # However small the scene is, something is cultivated.
        cultivated[seen[score[seen].argmax()]] = True

    def drawn(kinds: dict, number: int, spread: float) -> np.ndarray:
        # Each scene has its own favourites.
        shares = rng.gamma(spread * np.array([cover.share for cover in kinds.values()])) + 1e-9
        return rng.choice([NAMES.index(name) for name in kinds], number, p=shares / shares.sum())

    # Crops differ from field to field; woods and water fill blocks, and so does most grass.
    other = np.where(rng.random(len(block)) < 0.8, drawn(OTHERS, count, 8)[block], NAMES.index("meadow"))
    land = np.where(cultivated, drawn(CROPS, len(block), 8), other)
    return np.where(fields, land, drawn(SETTLED, len(block), 15))


def _river(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Metres to a river's bank, negative on the water."""
    angle = rng.uniform(0, np.pi)
    along, across = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
    waves = rng.uniform(300, 1500, 4)
    bends = (np.sin(along[..., None] / waves * 2 * np.pi + rng.uniform(0, 2 * np.pi, 4)) * waves / 14).sum(axis=-1)
    middle = rng.choice(across.ravel())
    return np.abs(across - middle - bends) - np.exp(rng.uniform(np.log(2), np.log(25)))
