"""A large image through a network that sees one tile at a time."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.progress import track

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def predict_tiles(predict: Predict, images: np.ndarray, scale: int, tile: int = 64, overlap: int = 8) -> np.ndarray:
    """Run any engine over overlapping tiles of a time series and blend its answers into one seamless map.

    All tiles have one size, so the engine compiles once: `tile` pixels, or the image's own size along an axis shorter
    than that. They are spread evenly, sharing `overlap` pixels or more; there each tile's weight falls linearly
    towards its edge, and the weights of all tiles sum to one at every pixel.

    Args:
        predict: the engine: (images uint16 (1, time, h, w, bands), num_frames int32 (1,)) -> float32
            (1, scale * h, scale * w, 1). It sees every frame of `images`.
        images: (1, time, height, width, bands), digital numbers, uint16.
        scale: how many times finer the engine's answer is than its input.
        tile: side of a tile, in input pixels.
        overlap: the least overlap of neighbouring tiles, in input pixels.

    Returns:
        float32 (1, scale * height, scale * width, 1).

    Raises:
        SpinetError: if the tile does not exceed the overlap, or the engine's answer has another shape.

    Example:
        probability = predict_tiles(engine.predict, images, engine.scale)
    """
    if not 0 <= overlap < tile:
        raise SpinetError(
            f"Expected a tile size above the overlap, and an overlap of 0 or more. Received: tile {tile}, "
            f"overlap {overlap}."
        )
    height, width = images.shape[2:4]
    rows, columns = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    row_weights = blending_weights(rows, height, tile, overlap, scale)
    column_weights = blending_weights(columns, width, tile, overlap, scale)
    num_frames = np.array([images.shape[1]], np.int32)

    # Summed in float64, so that equal answers of overlapping tiles come out unchanged once rounded to float32.
    total = np.zeros((scale * height, scale * width))
    tiles = list(itertools.product(range(len(rows)), range(len(columns))))
    for i, j in track(tiles, "Predicting tiles"):
        part = images[:, :, rows[i] : rows[i] + tile, columns[j] : columns[j] + tile]
        answer = predict(np.ascontiguousarray(part), num_frames)
        expected = (1, scale * part.shape[2], scale * part.shape[3], 1)
        if answer.shape != expected:
            raise SpinetError(f"Expected an answer of shape {expected} from the model. Received: {answer.shape}.")
        weights = row_weights[i][:, None] * column_weights[j]
        y, x = scale * rows[i], scale * columns[j]
        total[y : y + expected[1], x : x + expected[2]] += weights * answer[0, :, :, 0]
    return total.astype(np.float32)[None, :, :, None]


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin along an axis of `length` pixels: the fewest that overlap enough, evenly spread."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(start) for start in np.linspace(0, length - tile, count)]


def blending_weights(starts: list[int], length: int, tile: int, overlap: int, scale: int) -> list[np.ndarray]:
    """Return each tile's weight along one axis, per fine pixel: float64, summing to one over the tiles."""
    size = scale * min(tile, length)
    centres = np.arange(size) + 0.5
    # The distance to the nearer edge of the tile, as a fraction of the overlap; 1 inside.
    ramp = np.minimum(np.minimum(centres, size - centres) / max(scale * overlap, 1), 1.0)
    total = np.zeros(scale * length)
    for start in starts:
        total[scale * start : scale * start + size] += ramp
    return [ramp / total[scale * start : scale * start + size] for start in starts]
