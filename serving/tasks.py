"""A request on its way through a queue."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

Outputs = dict[str, np.ndarray]


class Task:
    """A request in a queue, in one part or, where it is too large for a batch, in several.

    Args:
        outputs: the outputs wanted.
        deadline: by `time.monotonic`; None for none.
        parts: in how many parts it runs.

    Attributes:
        future: gets the outputs; to cancel it takes the request out of the queue, unless it is running.
    """

    def __init__(self, outputs: Sequence[str], deadline: float | None, parts: int = 1):
        self.outputs = outputs
        self.deadline = deadline
        self.enqueued = time.monotonic()
        self.future: Future[Outputs] = Future()
        self._lock = threading.Lock()
        self._started = False
        self._answers: dict[int, Outputs | Exception] = {}
        self._parts = parts

    def start(self) -> bool:
        """Whether a part should run; false once the request is cancelled."""
        with self._lock:
            if not self._started:
                self._started = not self.future.cancelled() and self.future.set_running_or_notify_cancel()
            return self._started

    def finish(self, part: int, answer: Outputs | Exception) -> None:
        """Take a part's answer. With the last one the future gets them all, or the first error."""
        with self._lock:
            self._answers[part] = answer
            if len(self._answers) < self._parts:
                return
        answers = []
        for _, finished in sorted(self._answers.items(), key=lambda item: item[0]):
            if isinstance(finished, Exception):
                self.future.set_exception(finished)
                return
            answers.append(finished)
        if len(answers) == 1:
            self.future.set_result(answers[0])
        else:
            self.future.set_result({name: np.concatenate([part[name] for part in answers]) for name in answers[0]})


@dataclass(frozen=True)
class Part:
    """What of a task goes into one batch."""

    task: Task
    index: int
    inputs: Mapping[str, np.ndarray]
    rows: int
