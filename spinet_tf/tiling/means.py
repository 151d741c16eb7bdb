"""The means that TEFA and TERN take over all that they see, found once for a scene instead of for each of its tiles.

TEFA's gates and TERN's filters follow from means over the network's whole input. Tiles with means of their own are
answered a little differently from each other and from the scene as a whole; tiles with the scene's are not. Those are
the means over tiles that cover the scene without overlapping, or over some of them: a tile's own gates change what
later blocks see of it, but these changes nearly cancel in the mean over tiles, so one pass is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np

from .errors import SpinetError

# How many tiles are looked at to find a scene's means: more than make up 500 x 500 pixels.
SAMPLE = 16
# How many are tried until that many were found that hold data.
TRIES = 4 * SAMPLE

MeansOf = Literal["scene", "tile"]
Item = TypeVar("Item")
_GOLDEN = (5**0.5 - 1) / 2


class Means(NamedTuple):
    """Means as the network gives and takes them, of a batch of tiles.

    Attributes:
        blocks: float32 (batch, blocks, filters), of every TEFA block over all frames and pixels.
        frames: float32 (batch, time, filters), of every frame over all pixels, behind TERN's filters. NaN stands for
            the tile's own.
    """

    blocks: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class SceneMeans:
    """The means of a scene.

    Attributes:
        blocks: float32 (blocks, filters).
        frames: float32 (time, filters), of every frame of the scene; NaN where no tile that was looked at shows it.
    """

    blocks: np.ndarray
    frames: np.ndarray

    def of_tiles(self, frames: Sequence[np.ndarray]) -> Means:
        """What a batch of tiles is answered with.

        Args:
            frames: for each tile, the numbers in the scene of the frames that it shows.
        """
        length = max(len(chosen) for chosen in frames)
        # What stands for padding frames is never looked at.
        padded = np.zeros((len(frames), length, self.frames.shape[1]), np.float32)
        for sample, chosen in zip(padded, frames, strict=True):
            sample[: len(chosen)] = self.frames[chosen]
        return Means(np.broadcast_to(self.blocks, (len(frames), *self.blocks.shape)), padded)


class MeanSums:
    """Adds up the means of tiles to those of their scene. All tiles have one size.

    Args:
        dates: how many frames the scene has.

    Example:
        sums = MeanSums(dates=len(images))
        sums.add(engine.find_means(request.images[None], np.array([len(request.frames)], np.int32)), request.frames)
        sums.means()
    """

    def __init__(self, dates: int):
        self.tiles = 0
        self._blocks = np.zeros(())
        self._frames = np.zeros(())
        self._counts = np.zeros(dates)

    def add(self, means: Means, frames: np.ndarray) -> None:
        """Add a tile's.

        Args:
            means: what the network gives for it, a batch of one.
            frames: the numbers in the scene of the frames that it shows.
        """
        if not self.tiles:
            self._blocks = np.zeros(means.blocks.shape[1:])
            self._frames = np.zeros((len(self._counts), means.frames.shape[2]))
        # A mean over frames weighs as much as there are frames in it.
        self._blocks += len(frames) * means.blocks[0].astype(np.float64)
        self._frames[frames] += means.frames[0, : len(frames)]
        self._counts[frames] += 1
        self.tiles += 1

    def means(self) -> SceneMeans:
        """The scene's means, once at least one tile was added."""
        shown = self._counts[:, None] > 0
        frames = np.where(shown, self._frames / np.maximum(self._counts, 1)[:, None], np.nan)
        blocks = self._blocks / self._counts.sum()
        return SceneMeans(blocks.astype(np.float32), frames.astype(np.float32))


def spread_out(items: Sequence[Item]) -> list[Item]:
    """At most `TRIES` of all items, in an order whose beginnings are spread over them all."""
    # Multiples of the golden section fill the circle evenly; neighbours on it lie far from each other in the list.
    order = sorted(range(len(items)), key=lambda number: number * _GOLDEN % 1)
    return [items[number] for number in order[:TRIES]]


def require_means(means: str) -> None:
    """Raise a SpinetError if this is nothing that means can be taken over."""
    if means not in get_args(MeansOf):
        raise SpinetError(f"Expected means over {' or '.join(get_args(MeansOf))}. Received: {means!r}")
