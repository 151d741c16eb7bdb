"""What the network is asked about a tile."""

from collections.abc import Iterable
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

    Args:
        images: uint16 (time, height, width, bands), 0 where there is no data: the scene, or a window of it that holds
            all pixels that the tile shows.
        valid: bool (time, height, width), where clear ground was seen.
        tiling: of the whole scene.
        tile: one of its tiles.
        choice: how frames are chosen, see `tile_frames`.
        origin: the row and column of the scene at which `images` begins.

    Returns:
        The request; None if no frame holds data anywhere in the tile.

    Example:
        request = cut_request(images, valid, tiling, tiling.tiles[0], FrameChoice("clearest", 9))
        answer = engine.predict(request.images[None], np.array([len(request.images)], np.int32))
    """
    frames = tile_frames(images, valid, tiling, tile, choice, origin)
    return cut_frames(images, valid, tiling, tile, frames, origin) if frames.size else None


def cut_frames(
    images: np.ndarray,
    valid: np.ndarray,
    tiling: Tiling,
    tile: Tile,
    frames: np.ndarray,
    origin: tuple[int, int] = (0, 0),
) -> TileRequest:
    """Cut a tile out of a time series, with frames that were chosen before.

    Args:
        images: as in `cut_request`, like all others.
        valid: likewise.
        tiling: likewise.
        tile: likewise.
        frames: at least one, as `tile_frames` gives them.
        origin: likewise.
    """
    inside = _inside(tiling, tile, origin)
    counts = valid[:, *inside][frames].sum(axis=0, dtype=np.int16)
    counts[~images[:, *inside][frames].any(axis=(0, 3))] = -1
    y = tiling.rows.reflected(tile.row) - origin[0]
    x = tiling.columns.reflected(tile.column) - origin[1]
    top, left = y.min(), x.min()
    # The rectangle first, so that no frame is copied as a whole.
    seen = images[:, top : y.max() + 1, left : x.max() + 1][frames]
    return TileRequest(seen[:, (y - top)[:, None], x - left], counts, frames)


def tile_frames(
    images: np.ndarray,
    valid: np.ndarray,
    tiling: Tiling,
    tile: Tile,
    choice: FrameChoice,
    origin: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """The frames of a tile: chosen by the part of it that they show clear, as training chooses them for each patch.

    Where none shows any of it clear, they are chosen by the part for which they hold data.

    Args:
        images: as in `cut_request`, like all others.
        valid: likewise.
        tiling: likewise.
        tile: likewise.
        choice: likewise.
        origin: likewise.

    Returns:
        int64 (frames,), ascending; empty where no frame holds data.
    """
    inside = _inside(tiling, tile, origin)
    frames = choice.choose(valid[:, *inside].mean(axis=(1, 2)))
    return frames if frames.size else choice.choose(images[:, *inside].any(axis=3).mean(axis=(1, 2)))


def frames_to_read(
    valid: np.ndarray, tiling: Tiling, tiles: Iterable[Tile], choice: FrameChoice, origin: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The frames without which the frames of these tiles cannot be known, int64, ascending.

    Without the others `tile_frames` chooses the same. All are needed where a tile has no clear pixel in any.
    """
    needed = np.zeros(len(valid), bool)
    for tile in tiles:
        frames = choice.choose(valid[:, *_inside(tiling, tile, origin)].mean(axis=(1, 2)))
        needed[frames if frames.size else slice(None)] = True
    return np.flatnonzero(needed)


def _inside(tiling: Tiling, tile: Tile, origin: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = tiling.inside(tile)
    return (
        slice(rows.start - origin[0], rows.stop - origin[0]),
        slice(columns.start - origin[1], columns.stop - origin[1]),
    )
