"""Batches for `model.fit` on backends without tf.data, such as JAX: the same numbers, few different lengths."""

import bisect
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.batches import Batches, require_range, require_step

# Numbers of frames that batches are padded to: JAX compiles the network anew for each.
_LENGTHS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)


class BatchSequence(keras.utils.PyDataset):
    """Batches by number as a `keras.utils.PyDataset` of NumPy arrays, in order, prepared ahead in threads.

    Elements are those of `spinet_tf.data.batch_dataset`, but for padding: a batch is padded to the next of a few
    lengths, which include the numbers of frames that `Sampling` asks for. A last, smaller batch stays smaller, so that
    the mean loss over all is exact; it makes JAX compile once more.

    Args:
        batches: `ShardBatches`, `SceneBatches`, `GridBatches`, or a worker's share of them.
        start: number of the first batch: the steps already trained, where a run is resumed.
        stop: number of the batch to stop before; None for all, which may be without end: give `steps_per_epoch` then.
        parallel: how many batches are computed at once; None for `batches.parallel`. In memory are those and
            `batches.ahead` more. Keras' own
            `workers` stay at 1: with more of them it mixes up the order of the first batches.

    Raises:
        SpinetError: if `start` and `stop` are out of order.

    Example:
        batches = ShardBatches(Shards("prepared").training, Sampling("clearest"), batch=8)
        model.fit(BatchSequence(batches), epochs=60, steps_per_epoch=batches.steps, shuffle=False)
    """

    def __init__(self, batches: Batches, start: int = 0, stop: int | None = None, parallel: int | None = None):
        super().__init__()
        self._batches, self._start = batches, start
        self._stop = require_range(batches, start, stop)
        self._lengths = sorted({*_LENGTHS, *batches.lengths})
        self._threads = ThreadPoolExecutor(parallel or batches.parallel, "batches")
        self._computed: dict[int, Future] = {}
        self._lock = threading.Lock()

    @property
    def num_batches(self) -> int | None:
        return None if self._stop is None else self._stop - self._start

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        step = self._start + index
        require_step(step, self._stop)
        last = step + self._batches.ahead
        wanted = range(step, last + 1 if self._stop is None else min(last + 1, self._stop))
        with self._lock:
            # A new epoch goes back, to numbers that were not expected.
            for number in set(self._computed).difference(wanted):
                self._computed.pop(number).cancel()
            for number in wanted:
                if number not in self._computed:
                    self._computed[number] = self._threads.submit(self._compute, number)
            computed = self._computed.pop(step)
        return computed.result()

    def _compute(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        batch = self._batches[step]
        samples, time, *image = batch.images.shape
        length = self._padded(time)
        images = np.zeros((samples, length, *image), "float32")
        np.divide(batch.images, np.float32(QUANTIFICATION), out=images[:, :time])
        mask = np.arange(length) < batch.num_frames[:, None]
        return {"images": images, "frame_mask": mask}, batch.label.astype("float32"), batch.weight

    def _padded(self, time: int) -> int:
        """The length that a batch of `time` frames is padded to."""
        if time > self._lengths[-1]:
            return -(-time // 64) * 64
        return self._lengths[bisect.bisect_left(self._lengths, time)]
