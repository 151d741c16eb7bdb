"""How much of a scene is seen at once: within the memory at hand, and no more than a tile's worth of fine pixels."""

import pytest

from spinet_tf.inference import sizes
from spinet_tf.inference.sizes import fitting_tile, tiles_at_once
from spinet_tf.models.cost import Workload, peak_bytes
from spinet_tf.tiling import TILE

PAPER = {"filters": 48, "blocks": 16, "heads": 1, "scale": 4}


class Sized:
    """What is asked of an engine."""

    sizes = PAPER


@pytest.mark.parametrize(
    ("side", "frames", "expected"),
    [
        (128, 20, 1),
        (32, 20, 8),  # as in the paper's batches
        (32, 1, 16),  # as many fine pixels as one tile of 128 has
        (128, 1, 1),
        (64, 7, 4),
        (32, 300, 1),
    ],
)
def test_tiles_at_once(side, frames, expected):
    assert tiles_at_once(side**2, frames) == expected


def needed(side):
    """With the margin that the scene's means take."""
    return int(peak_bytes(Workload(1, 20, (side + side // 2) ** 2, **PAPER)))


def test_tiles_are_smaller_where_memory_is(monkeypatch, recwarn):
    for memory, side in [(needed(128) + 1, 128), (needed(128) - 1, 64), (needed(64) - 1, 32), (1, 32)]:
        monkeypatch.setattr(sizes, "memory_at_hand", lambda memory=memory: memory)
        recwarn.clear()
        assert fitting_tile(Sized(), frames=20) == side
        if side == TILE:
            assert not recwarn
        else:
            assert str(recwarn.pop(UserWarning).message).startswith(f"Tiles of {side} pixels instead of 128, which")


def test_engines_of_unknown_cost_have_the_usual_tiles(monkeypatch):
    monkeypatch.setattr(sizes, "memory_at_hand", lambda: 1)
    assert fitting_tile(object(), frames=20) == TILE
