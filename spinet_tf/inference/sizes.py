"""How much of a scene the network sees at once, by the memory that it takes."""

import warnings

from spinet_tf.inference.engine import Engine
from spinet_tf.memory import memory_at_hand
from spinet_tf.models.cost import Workload, peak_bytes
from spinet_tf.tiling import TILE

# Pixels of all frames that the network sees at once if nobody says otherwise: as many as in a batch that trains the
# paper's network, 8 patches of 20 frames of 32 x 32 pixels. And pixels of all tiles: those of fine pixels come after
# the frames, however few these are, and take the most memory.
_FRAME_PIXELS = 8 * 20 * 32 * 32
_PIXELS = TILE**2
# The smallest tile, the patches that networks are trained on.
_LEAST = 32


def tiles_at_once(pixels: int, frames: int) -> int:
    """How many tiles of so many pixels and frames make a batch."""
    return max(1, min(_FRAME_PIXELS // (pixels * frames), _PIXELS // pixels))


def fitting_tile(engine: Engine, frames: int) -> int:
    """The side of tiles: `TILE`, or half of it, and again, where the memory at hand is too small for the network.

    Args:
        engine: of a `SPInet` in this process, whose cost is known by formula; all others have `TILE`.
        frames: the most that a tile has.

    Example:
        fitting_tile(KerasEngine(SPInet()), frames=20)
    """
    sizes = getattr(engine, "sizes", None)
    if sizes is None:
        return TILE

    def needed(side: int) -> float:
        # The scene's means are found on tiles larger by half.
        return peak_bytes(Workload(1, frames, (3 * side // 2) ** 2, **sizes))

    side, here = TILE, memory_at_hand()
    while side > _LEAST and needed(side) > here:
        side //= 2
    if side < TILE:
        warnings.warn(
            f"Tiles of {side} pixels instead of {TILE}, which would take about {needed(TILE) / 1e9:.1f} GB of memory: "
            f"there are {here / 1e9:.1f}.",
            stacklevel=3,
        )
    return side
