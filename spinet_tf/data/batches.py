"""Batches by number: batch n of a training run depends on the seed and n alone. NumPy only.

So the position in the data is the number of the step: a run that is resumed, skips ahead, or shares its batches with
other processes needs no other state, and every framework gets the same numbers.
"""

import abc
import copy
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from spinet_tf.data.patches import Patch
from spinet_tf.errors import SpinetError

# The batches among which patches are sorted by their number of frames.
_WINDOW = 64


class Batch(NamedTuple):
    """Patches of ragged length, padded in time.

    Attributes:
        images: uint16 (batch, time, height, width, bands), digital numbers; padding frames, the last ones, are 0.
        num_frames: int32 (batch,), how many frames are real.
        label: uint8 (batch, scale * height, scale * width, 1), 1 cultivated, 0 not or unknown.
        weight: float32 (batch, scale * height, scale * width, 1), 0 where unknown.
    """

    images: np.ndarray
    num_frames: np.ndarray
    label: np.ndarray
    weight: np.ndarray


class PatchShape(NamedTuple):
    """What all patches have in common.

    Attributes:
        images: (height, width, bands).
        label: (scale * height, scale * width, 1).
    """

    images: tuple[int, ...]
    label: tuple[int, ...]


class Batches(abc.ABC):
    """Batches by number, from 0.

    Attributes:
        batch: patches in a batch.
        shape: the shape of a patch.
        count: how many batches there are; None where they go on without end.
        ahead: how many batches are worth preparing ahead.
        parallel: how many batches are worth computing at once.
        lengths: the numbers of frames that many batches have, to which others may be padded.
    """

    batch: int
    shape: PatchShape
    count: int | None = None
    ahead: int = 2
    parallel: int = 2
    lengths: tuple[int, ...] = ()
    _rows = slice(0, None, 1)

    @abc.abstractmethod
    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`, of this worker's rows."""

    @abc.abstractmethod
    def names(self, step: int) -> list[str]:
        """Which patches batch number `step` holds, by scene and place, in the order of its rows."""

    def shard(self, worker: int, workers: int) -> Self:
        """One worker's share: rows worker, worker + workers, ... of every batch.

        All shares together are the whole batches, whose number and order do not change; each is padded to its own
        longest patch. A share of a last, smaller batch may have no row at all.

        Args:
            worker: number of the worker, from 0.
            workers: how many there are, at most as many as patches in a batch.

        Raises:
            SpinetError: if a number is out of range.

        Example:
            batches.shard(0, 2)[step]  # the even rows of batches[step]
        """
        rows = len(range(self.batch)[self._rows])
        if not 0 <= worker < workers <= rows:
            raise SpinetError(
                f"Expected 0 <= worker < workers <= {rows}, the patches in a batch. "
                f"Received: worker {worker} of {workers}. Take fewer workers or a larger batch."
            )
        share = copy.copy(self)
        share._rows = slice(self._rows.start + worker * self._rows.step, None, workers * self._rows.step)
        return share


def require_step(step: int, count: int | None) -> None:
    """Raise an IndexError, which ends a `for` loop, if there is no batch of that number."""
    if step < 0 or (count is not None and step >= count):
        raise IndexError(f"Expected a batch from 0 to {'any number' if count is None else count - 1}. Received: {step}")


def require_range(batches: Batches, start: int, stop: int | None) -> int | None:
    """The number to stop before, that of the batches where `stop` is None; a SpinetError where they do not fit."""
    stop = batches.count if stop is None else stop
    last = float("inf") if batches.count is None else batches.count
    if not 0 <= start <= (last if stop is None else stop) <= last:
        raise SpinetError(
            f"Expected 0 <= start <= stop{'' if batches.count is None else f' <= {batches.count}'}. "
            f"Received: start {start} and stop {stop}"
        )
    return stop


def collate(patches: Sequence[Patch], shape: PatchShape) -> Batch:
    """Put patches of different lengths into one batch."""
    num_frames = np.array([len(patch.images) for patch in patches], "int32")
    images = np.zeros((len(patches), num_frames.max(initial=1), *shape.images), "uint16")
    label = np.empty((len(patches), *shape.label), "uint8")
    weight = np.empty((len(patches), *shape.label), "float32")
    for row, patch in enumerate(patches):
        images[row, : len(patch.images)], label[row], weight[row] = patch
    return Batch(images, num_frames, label, weight)


def bucketed(items: np.ndarray, lengths: np.ndarray, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Divide items into batches of about equal lengths, in random order.

    Args:
        items: in random order; a whole number of batches.
        lengths: the length of each.
        batch: items in a batch.
        rng: where the order of the batches is drawn from.

    Returns:
        (batches, batch), each item once.
    """
    windows = np.arange(len(items)) // (_WINDOW * batch)
    by_length = np.lexsort((lengths, windows))
    return rng.permutation(items[by_length].reshape(-1, batch))
