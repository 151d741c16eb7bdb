"""Limits of what files may announce: reading makes room for it before anything shows that the file is damaged."""

import math
from collections.abc import Sequence

from spinet_tf.errors import SpinetError

# No scene is longer along an axis, labels included: 2,600 km of 10 m, four times finer.
_LARGEST_SIDE = 1 << 20
# Bytes of the piece that must be in memory as a whole to read one pixel: a chunk, a strip or a tile.
_LARGEST_PIECE = 1 << 29


def require_sizes(shape: Sequence[int], piece: Sequence[int], itemsize: int, source: str) -> None:
    """Refuse an array that is larger than any scene, or kept in pieces too large for memory.

    Args:
        shape: of the array.
        piece: lengths of its chunks, strips or tiles.
        itemsize: bytes of a value.
        source: where the array is, for the message.

    Raises:
        SpinetError: if a side or a piece is beyond the limits.

    Example:
        require_sizes((118, 12, 10980, 10980), (1, 1, 512, 512), 2, "scene.nc")
    """
    if max(shape, default=0) > _LARGEST_SIDE:
        raise SpinetError(f"{source} announces {max(shape)} pixels or values in a row: more than {_LARGEST_SIDE}.")
    size = math.prod(map(int, piece)) * itemsize
    if size > _LARGEST_PIECE:
        raise SpinetError(
            f"{source} is kept in pieces of {size / 2**20:.0f} MiB, and one must be in memory to read a pixel of it. "
            f"Write it anew in pieces of at most {_LARGEST_PIECE >> 20} MiB: tiles of 512 x 512 pixels."
        )
