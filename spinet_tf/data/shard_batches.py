"""Batches from prepared patches: random ones to train on, each one once to validate on. NumPy only."""

import abc

import numpy as np

from spinet_tf.data.batches import Batch, Batches, PatchShape, bucketed, collate, require_step
from spinet_tf.data.sampling import BATCH, PASS, PATCH, Sampling, stream
from spinet_tf.data.shards import Patches, PatchSet
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import count_frames


class _Numbered(Batches):
    """What batches of numbered patches share; `_plan` says which patches a batch holds."""

    def __init__(self, patches: Patches, sampling: Sampling, batch: int, seed: int):
        if not len(patches):
            raise SpinetError("Expected at least one patch. Received none.")
        if batch < 1:
            raise SpinetError(f"Expected a batch of at least 1 patch. Received: {batch}")
        without = np.flatnonzero(~(patches.clear > 0).any(axis=1))
        if without.size:
            raise SpinetError(f"{patches.name(int(without[0]))} has no clear pixel. Prepare the patches anew.")
        self._patches, self.sampling, self.batch, self.seed = patches, sampling, batch, seed
        self.lengths = sampling.counts
        patch = patches.read(0, np.array([patches.clear[0].argmax()]))
        self.shape = PatchShape(patch.images.shape[1:], patch.label.shape)

    @abc.abstractmethod
    def _plan(self, step: int) -> np.ndarray:
        """The numbers of the patches in a batch."""

    def _frame_counts(self) -> np.ndarray:
        """How many frames each patch gives at most."""
        sampling = self.sampling
        return count_frames(self._patches.clear, sampling.frames, sampling.counts[1], sampling.max_cloud)

    def names(self, step: int) -> list[str]:
        return [self._patches.name(int(number)) for number in self._plan(step)[self._rows]]


class ShardBatches(_Numbered):
    """Batches of random patches without end, each a function of the seed and its number alone.

    The patches are gone through again and again, each time in another random order; what is left over when they do not
    fill a last batch differs each time. With `sampling.balance` they are drawn by how many pixels of either class they
    hold instead. Patches with about as many frames come into one batch, so that little is padded: those of 64 batches
    are sorted by length, then all batches are put in random order.

    Any thread may ask for any batch. One batch is in memory for each thread that asks: 4 MB for 8 patches of 20 frames
    of 32x32 pixels and 12 bands.

    Args:
        patches: the patches, such as `Shards("prepared").training`.
        sampling: how they are drawn and varied.
        batch: patches in a batch.
        steps: batches that count as an epoch; None for one pass over the patches.
        seed: seed of everything random.

    Attributes:
        steps: batches that count as an epoch.

    Raises:
        SpinetError: if there are no patches, a number is out of range, or there is nothing to balance.

    Example:
        batches = ShardBatches(Shards("prepared").training, Sampling("clearest"), batch=8)
        model.fit(batch_dataset(batches, start=step), steps_per_epoch=batches.steps, shuffle=False)
    """

    def __init__(self, patches: PatchSet, sampling: Sampling, batch: int, steps: int | None = None, seed: int = 0):
        super().__init__(patches, sampling, batch, seed)
        if steps is not None and steps < 1:
            raise SpinetError(f"Expected at least 1 step. Received: {steps}")
        self._per_pass = max(len(patches) // batch, 1)
        self.steps = steps or self._per_pass
        self._lengths = self._frame_counts()
        self._bounds = _balanced(patches.cultivated, patches.known) if sampling.balance else None
        self._last_pass: tuple[int, np.ndarray] | None = None

    def __getitem__(self, step: int) -> Batch:
        require_step(step, None)
        sampling = self.sampling
        count = sampling.draw_count(stream(self.seed, BATCH, step))
        patches = []
        for row, number in list(enumerate(self._plan(step)))[self._rows]:
            rng = stream(self.seed, PATCH, step, row)
            frames = sampling.drop(sampling.choose(self._patches.clear[number], count, rng), rng)
            patches.append(sampling.vary(self._patches.read(int(number), frames), rng))
        return collate(patches, self.shape)

    def _plan(self, step: int) -> np.ndarray:
        number, position = divmod(step, self._per_pass)
        # One assignment, so that threads need no lock: at worst some compute the same twice.
        last = self._last_pass
        if last is None or last[0] != number:
            self._last_pass = last = number, self._shuffled(number)
        return last[1][position]

    def _shuffled(self, number: int) -> np.ndarray:
        """The patches of one pass, (batches, batch)."""
        rng = stream(self.seed, PASS, number)
        size, patches = self._per_pass * self.batch, len(self._patches)
        if self._bounds is not None:
            # Evenly spaced from a random start: each patch as often as it should be, up to one.
            drawn = np.searchsorted(self._bounds, (rng.random() + np.arange(size)) / size, "right")
            items = rng.permutation(drawn)
        else:
            # More than once only where a batch is larger than all the patches.
            items = np.concatenate([rng.permutation(patches) for _ in range(-(-size // patches))])[:size]
        return bucketed(items, self._lengths[items], self.batch, rng)


class GridBatches(_Numbered):
    """Batches in which every patch comes once, to validate on: neither random nor endless.

    Of `sampling` only the choice of frames counts; nothing is turned, varied, left out or balanced, and of a range of
    counts the largest is taken. Patches come in order of their number of frames, so that little is padded.

    Args:
        patches: the patches, such as `Shards("prepared").validation`.
        sampling: which frames are taken; random ones are the same ones each time.
        batch: patches in a batch; the last may hold fewer.
        groups: an integer per patch: patches with the same one stay together, such as those of a scene, which then is
            opened once.

    Raises:
        SpinetError: if there are no patches, or the batch is empty.

    Example:
        model.evaluate(batch_dataset(GridBatches(Shards("prepared").validation, Sampling("all"), batch=8)))
    """

    count: int

    def __init__(self, patches: Patches, sampling: Sampling, batch: int, groups: np.ndarray | None = None):
        super().__init__(patches, sampling, batch, seed=0)
        self.count = -(-len(patches) // batch)
        if groups is None:
            self._order = np.argsort(self._frame_counts(), kind="stable")
        else:
            self._order = np.lexsort((self._frame_counts(), groups))
            # Two batches at once would go back and forth between two groups.
            self.parallel = 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Batch:
        patches = []
        for number in self._plan(step)[self._rows]:
            rng = stream(self.seed, PATCH, int(number))
            frames = self.sampling.choose(self._patches.clear[number], self.sampling.counts[1], rng)
            patches.append(self._patches.read(int(number), frames))
        return collate(patches, self.shape)

    def _plan(self, step: int) -> np.ndarray:
        require_step(step, self.count)
        return self._order[step * self.batch : (step + 1) * self.batch]


def _balanced(cultivated: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Cumulated probabilities with which patches are drawn, so that either class makes half of the draws."""
    classes = [np.asarray(cultivated, "float64"), np.asarray(known, "float64") - cultivated]
    if not all(pixels.any() for pixels in classes):
        raise SpinetError(
            "Expected cultivated pixels and others to balance. Received patches with only one kind of them. "
            "Set balance to false, or add scenes."
        )
    # Without the last, which is 1 up to rounding, so that no draw lies beyond it.
    return np.cumsum(sum(pixels / pixels.sum() for pixels in classes) / 2)[:-1]
