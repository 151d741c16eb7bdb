"""Dynamic batching with TensorFlow Serving's semantics: queues of requests that threads take away in batches.

Every signature of every version has a queue; the threads are shared. A queue's last batch is open: requests join it
until it is full, or until the first of them has waited for the timeout and a thread is free. Without batching every
request is a batch of its own, and the threads limit how many run at once.

As there, a batch has one fate: a request that the graph refuses, or one of another shape where nothing is padded, fails
all requests of its batch.

References:
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/batching/README.md
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/batching_util/shared_batch_scheduler.h
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import numpy as np
import tensorflow as tf

from serving import merging
from serving.batching import Batching
from serving.metrics import Metrics
from serving.status import failure
from serving.tasks import Outputs, Part, Task

# What runs a batch: tensors, the outputs wanted, and seconds that it may take or None.
Run = Callable[[Mapping[str, np.ndarray], Sequence[str], float | None], Outputs]

logger = logging.getLogger(__name__)


class Scheduler:
    """The threads that run batches.

    Args:
        threads: how many.

    Example:
        scheduler = Scheduler(threads=2)
        queue = Queue(scheduler, run, Batching(max_batch_size=8), Metrics())
        queue.submit({"x": x}, outputs=["y"]).result()
        scheduler.close()
    """

    def __init__(self, threads: int):
        # Guards the queues too.
        self.condition = threading.Condition()
        self._queues: deque[Queue] = deque()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, queue: "Queue") -> None:
        """Take batches from `queue` too, in turn with the others."""
        with self.condition:
            self._queues.append(queue)

    def remove(self, queue: "Queue") -> None:
        """Take no more batches from `queue`, which is empty."""
        with self.condition:
            self._queues.remove(queue)

    def close(self) -> None:
        """Run what is in the queues, and end the threads."""
        with self.condition:
            self._closed = True
            self.condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (work := self._next()) is not None:
            queue, batch = work
            queue.process(batch)
            # Or an idle thread would keep the last batch in memory.
            del work, queue, batch

    def _next(self) -> tuple["Queue", list[Part]] | None:
        with self.condition:
            while True:
                waits = []
                for _ in range(len(self._queues)):
                    queue = self._queues[0]
                    self._queues.rotate(-1)
                    batch, wait = queue.take(at_once=self._closed)
                    if batch:
                        return queue, batch
                    waits.append(wait)
                if self._closed:
                    return None
                self.condition.wait(min((wait for wait in waits if wait is not None), default=None))


class Queue:
    """The requests of one signature that wait for a thread.

    Args:
        scheduler: the threads.
        run: runs a batch; its errors are those of every request in it.
        batching: how requests are put together; None for each alone.
        metrics: counts rows and waiting times.
    """

    def __init__(self, scheduler: Scheduler, run: Run, batching: Batching | None, metrics: Metrics):
        self._scheduler = scheduler
        self._run = run
        self._batching = batching
        self._metrics = metrics
        self._closed_batches: deque[list[Part]] = deque()
        self._open_batch: list[Part] = []
        scheduler.add(self)

    def submit(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        deadline: float | None = None,
        alone: bool = False,
    ) -> Future[Outputs]:
        """Put a request into the queue.

        Args:
            inputs: its tensors.
            outputs: the outputs wanted.
            deadline: by `time.monotonic`; None for none.
            alone: whether it is a batch of its own in any case.

        Returns:
            A future of the outputs by name.

        Raises:
            tf.errors.UnavailableError: if the queue is full.
            tf.errors.InvalidArgumentError: for a request of more rows than a batch may have, or of tensors with
                different numbers of rows.
        """
        count = 0 if self._batching is None or alone else merging.rows(inputs)
        if self._batching is None or not count:
            task = Task(outputs, deadline)
            with self._scheduler.condition:
                self._closed_batches.append([Part(task, 0, inputs, 0)])
                self._scheduler.condition.notify()
            return task.future
        self._metrics.observe_input_size(count)
        with self._scheduler.condition:
            self._check_capacity(self._batching, count)
            sizes = self._part_sizes(self._batching, count)
            task = Task(outputs, deadline, len(sizes))
            start = 0
            for index, size in enumerate(sizes):
                if _rows(self._open_batch) + size > self._batching.greatest:
                    self._close_batch()
                part = {name: tensor[start : start + size] for name, tensor in inputs.items()}
                self._open_batch.append(Part(task, index, part, size))
                start += size
            # Whichever thread wakes up takes a full batch, or waits until the open one is due.
            self._scheduler.condition.notify_all()
        return task.future

    def _check_capacity(self, batching: Batching, count: int) -> None:
        if count > batching.max_batch_size:
            raise failure(
                tf.errors.InvalidArgumentError,
                f"Task size {count} is larger than maximum input batch size {batching.max_batch_size}",
            )
        # The open batch counts too.
        enqueued = len(self._closed_batches) + 1
        room = batching.greatest - _rows(self._open_batch)
        if batching.max_execution_batch_size is not None:
            room += (batching.max_enqueued_batches - enqueued) * batching.greatest
        elif enqueued < batching.max_enqueued_batches:
            return
        if count > room:
            raise failure(
                tf.errors.UnavailableError,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{enqueued} batches enqueued and max_enqueued_batches is {batching.max_enqueued_batches}",
            )

    def _part_sizes(self, batching: Batching, count: int) -> list[int]:
        if batching.max_execution_batch_size is None:
            return [count]
        room = batching.greatest - _rows(self._open_batch)
        if count <= room:
            return [count]
        first = [room] if room else []
        full, rest = divmod(count - room, batching.greatest)
        return first + [batching.greatest] * full + ([rest] if rest else [])

    def _close_batch(self) -> None:
        if self._open_batch:
            self._closed_batches.append(self._open_batch)
            self._open_batch = []

    def take(self, at_once: bool) -> tuple[list[Part], float | None]:
        """Take a batch that is ready; the scheduler holds its lock.

        Args:
            at_once: whether the open batch is ready however long it has waited.

        Returns:
            The batch, empty if none is ready, and seconds until the open one is, None if it is empty too.
        """
        wait = None
        if self._open_batch and self._batching is not None and not self._closed_batches:
            wait = self._open_batch[0].task.enqueued + self._batching.timeout - time.monotonic()
            if at_once or wait <= 0 or _rows(self._open_batch) >= self._batching.greatest:
                self._close_batch()
        return (self._closed_batches.popleft() if self._closed_batches else []), wait

    def process(self, batch: list[Part]) -> None:
        """Run a batch and give every request its answer. What is cancelled or too late by now does not run."""
        now = time.monotonic()
        parts = []
        for part in batch:
            self._metrics.observe_queuing(now - part.task.enqueued)
            if not part.task.start():
                continue
            if part.task.deadline is not None and part.task.deadline <= now:
                part.task.finish(part.index, self._expired())
            else:
                parts.append(part)
        if not parts:
            return
        try:
            answers: Sequence[Outputs] = self._answer(parts, now)
        except tf.errors.OpError as error:
            # An error of one's own each: raising it in several threads would mix their tracebacks up.
            for part in parts:
                part.task.finish(part.index, failure(type(error), error.message))
        # Whatever it is: those who wait have to get an answer, and the thread has to live.
        except Exception as error:
            logger.exception("A batch failed")
            for part in parts:
                part.task.finish(part.index, failure(tf.errors.InternalError, f"{type(error).__name__}: {error}"))
        else:
            for part, answer in zip(parts, answers, strict=True):
                part.task.finish(part.index, answer)

    def _expired(self) -> tf.errors.OpError:
        if self._batching is None:
            return failure(tf.errors.DeadlineExceededError, "The deadline passed before the request could run")
        return failure(tf.errors.ResourceExhaustedError, "Run() timeout exceeded while waiting in batching queue")

    def _answer(self, parts: list[Part], now: float) -> list[Outputs]:
        deadlines = [part.task.deadline for part in parts if part.task.deadline is not None]
        # The request that may take longest decides for all.
        timeout = max(deadlines) - now if len(deadlines) == len(parts) else None
        if self._batching is None or not parts[0].rows:
            return [self._run(parts[0].inputs, parts[0].task.outputs, timeout)]
        sizes = [part.rows for part in parts]
        size = self._batching.filled(sum(sizes))
        self._metrics.observe_batch(size, padding=size - sum(sizes))
        inputs = merging.merge([part.inputs for part in parts], size, self._batching.pad)
        return merging.split(self._run(inputs, parts[0].task.outputs, timeout), sizes, size)


def _rows(batch: list[Part]) -> int:
    return sum(part.rows for part in batch)
