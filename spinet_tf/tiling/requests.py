"""What the network is asked about a tile."""

from dataclasses import dataclass

import numpy as np

from .frames import FrameChoice
from .tiles import Tile, Tiling


@dataclass(frozen=True)
class TileRequest:
    """One tile as the network sees it.

    Attributes:
        images: uint16 (frames, size, size, bands), its chosen frames, reflected beyond the scene's edges.
        counts: int16, for each pixel of the scene in the tile, how many chosen frames show clear ground; -1 where none
            holds data.
        frames: int64 (frames,), their numbers in the scene, ascending.
    """

    images: np.ndarray
    counts: np.ndarray
    frames: np.ndarray


def cut_request(
    images: np.ndarray,
    valid: np.ndarray,
    tiling: Tiling,
    tile: Tile,
    choice: FrameChoice,
    origin: tuple[int, int] = (0, 0),
) -> TileRequest | None:
    """Cut a tile out of a time series, with the frames that show most of it.

    Frames are chosen by the part of this tile that they show clear, as training chooses them for each patch. Where
    none shows any, they are chosen by the part for which they hold data.

    Args:
        images: uint16 (time, height, width, bands), 0 where there is no data: the scene, or a window of it that holds
            the whole tile.
        valid: bool (time, height, width), where clear ground was seen.
        tiling: of the whole scene.
        tile: one of its tiles.
        choice: how frames are chosen.
        origin: the row and column of the scene at which `images` begins.

    Returns:
        The request; None if no frame holds data anywhere in the tile.

    Example:
        request = cut_request(images, valid, tiling, tiling.tiles[0], FrameChoice("clearest", 9))
        answer = engine.predict(request.images[None], np.array([len(request.images)], np.int32))
    """
    rows, columns = tiling.inside(tile)
    inside = (
        slice(rows.start - origin[0], rows.stop - origin[0]),
        slice(columns.start - origin[1], columns.stop - origin[1]),
    )
    clear = valid[:, *inside]
    frames = choice.choose(clear.mean(axis=(1, 2)))
    if not frames.size:
        frames = choice.choose(images[:, *inside].any(axis=3).mean(axis=(1, 2)))
    if not frames.size:
        return None
    seen = images[frames]
    counts = clear[frames].sum(axis=0, dtype=np.int16)
    counts[~seen[:, *inside].any(axis=(0, 3))] = -1
    y = tiling.rows.reflected(tile.row) - origin[0]
    x = tiling.columns.reflected(tile.column) - origin[1]
    return TileRequest(seen[:, y[:, None], x], counts, frames)
