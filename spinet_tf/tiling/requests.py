"""What the network is asked about a tile."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .frames import FrameChoice
from .tiles import Tile, Tiling


@dataclass(frozen=True)
class Series:
    """What some tiles need of a time series.

    Attributes:
        images: uint16 (frames, height, width, bands), 0 where there is no data.
        valid: bool (time, height, width), where clear ground was seen, of all frames of the scene. It may show more of
            the scene than `images` does: frames are chosen by what surrounds a tile.
        frames: int64 (frames,), the numbers in the scene of those in `images`, ascending.
        origin: the row and column of the scene at which `images` begins.
        valid_origin: those at which `valid` begins.
    """

    images: np.ndarray
    valid: np.ndarray
    frames: np.ndarray
    origin: tuple[int, int]
    valid_origin: tuple[int, int]

    @classmethod
    def whole(cls, images: np.ndarray, valid: np.ndarray) -> "Series":
        """A scene in memory: images (time, height, width, bands) and valid (time, height, width).

        Example:
            cut_request(Series.whole(images, valid), tiling, tiling.tiles[0], FrameChoice())
        """
        return cls(images, valid, np.arange(len(images)), (0, 0), (0, 0))


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


def cut_request(series: Series, tiling: Tiling, tile: Tile, choice: FrameChoice) -> TileRequest | None:
    """Cut a tile out of a time series, with the frames that show most of it.

    Args:
        series: all that the tile shows, and the validity of all that surrounds it.
        tiling: of the whole scene.
        tile: one of its tiles.
        choice: how frames are chosen, see `tile_frames`.

    Returns:
        The request; None if no frame holds data anywhere in the tile.

    Example:
        request = cut_request(Series.whole(images, valid), tiling, tiling.tiles[0], FrameChoice("clearest", 9))
        answer = engine.predict(request.images[None], np.array([len(request.images)], np.int32))
    """
    frames = tile_frames(series, tiling, tile, choice)
    return cut_frames(series, tiling, tile, frames) if frames.size else None


def cut_frames(series: Series, tiling: Tiling, tile: Tile, frames: np.ndarray) -> TileRequest:
    """Cut a tile out of a time series, with frames that were chosen before, at least one, by their numbers."""
    places = np.searchsorted(series.frames, frames)
    counts = _of_tile(series.valid, tiling, tile, series.valid_origin)[frames].sum(axis=0, dtype=np.int16)
    counts[~_of_tile(series.images, tiling, tile, series.origin)[places].any(axis=(0, 3))] = -1
    y = tiling.rows.reflected(tile.row) - series.origin[0]
    x = tiling.columns.reflected(tile.column) - series.origin[1]
    top, left = y.min(), x.min()
    # The rectangle first, so that no frame is copied as a whole.
    seen = series.images[:, top : y.max() + 1, left : x.max() + 1][places]
    return TileRequest(seen[:, (y - top)[:, None], x - left], counts, frames)


def tile_frames(series: Series, tiling: Tiling, tile: Tile, choice: FrameChoice) -> np.ndarray:
    """The frames of a tile: chosen by the part of its surroundings that they show clear, so that neighbours agree.

    Ground that no frame shows clear is left out of account.

    Those that hold no data in the tile itself are left out. Where none is left, they are chosen by the part of the tile
    that they show clear; where none shows any of it, by the part for which they hold data.

    Args:
        series: as in `cut_request`, like all others. `frames_to_read` says which images are needed.
        tiling: likewise.
        tile: likewise.
        choice: likewise.

    Returns:
        int64 (frames,), their numbers in the scene, ascending; empty where no frame holds data.

    Reference: Valsesia & Magli, IGARSS 2022, section 3.1, choose the frames of whole scenes of 500 x 500 pixels.
    """
    data = _of_tile(series.images, tiling, tile, series.origin).any(axis=3).mean(axis=(1, 2))
    clear = _of_tile(series.valid, tiling, tile, series.valid_origin).mean(axis=(1, 2))
    for frames in (_by_surroundings(series.valid, tiling, tile, choice, series.valid_origin), choice.choose(clear)):
        frames = frames[np.isin(frames, series.frames[data > 0])]
        if frames.size:
            return frames
    return series.frames[choice.choose(data)]


def frames_to_read(
    valid: np.ndarray, tiling: Tiling, tiles: Iterable[Tile], choice: FrameChoice, origin: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The frames without whose images the frames of these tiles cannot be known, int64, ascending.

    All are needed where those that its surroundings ask for show nothing clear of a tile: they may hold no data there.

    Args:
        valid: as in `Series`, like `origin`, of which it is the `valid_origin`.
        tiling: of the whole scene.
        tiles: some of its tiles.
        choice: how frames are chosen.
        origin: see above.
    """
    needed = np.zeros(len(valid), bool)
    for tile in tiles:
        frames = _by_surroundings(valid, tiling, tile, choice, origin)
        needed[frames if _of_tile(valid, tiling, tile, origin)[frames].any() else slice(None)] = True
    return np.flatnonzero(needed)


def _by_surroundings(
    valid: np.ndarray, tiling: Tiling, tile: Tile, choice: FrameChoice, origin: tuple[int, int]
) -> np.ndarray:
    clear = _window(valid, *tiling.around(tile), origin)
    # Of the ground that any frame shows: where none does, no frame is the worse for it.
    ever = np.count_nonzero(clear.any(axis=0))
    return choice.choose(clear.sum(axis=(1, 2)) / max(ever, 1))


def _of_tile(array: np.ndarray, tiling: Tiling, tile: Tile, origin: tuple[int, int]) -> np.ndarray:
    return _window(array, *tiling.inside(tile), origin)


def _window(array: np.ndarray, rows: slice, columns: slice, origin: tuple[int, int]) -> np.ndarray:
    """Rows and columns of the scene of an array (n, height, width, ...) that begins at `origin`."""
    top, left = origin
    return array[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
