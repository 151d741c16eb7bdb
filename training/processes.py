"""Work in several processes that end when the command does, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from spinet_tf.errors import SpinetError

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Generator[Result]:
    """Call a function for each task, in processes of their own, and yield what it returns as it comes.

    When the loop over this is left, by an error or Ctrl-C, the processes are ended at once; they end too when this
    process is killed.

    Args:
        function: importable by its name.
        tasks: its arguments; they and what it returns are sent between processes.
        workers: how many processes; one works in this process.

    Raises:
        SpinetError: if a process is killed, for instance for want of memory.
        Exception: what the function raises.

    Example:
        for size in in_processes(os.path.getsize, paths, workers=4):
            print(size)
    """
    if min(workers, len(tasks)) <= 1:
        yield from map(function, tasks)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _prepare_worker) as pool:
        try:
            with _starting():
                futures = [pool.submit(function, task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise SpinetError(
                    "A worker process was killed, perhaps because memory ran out. Run the same command again, with "
                    "fewer --workers."
                ) from error
            raise


@contextmanager
def _starting() -> Iterator[None]:
    """Give the processes started inside what they need: no Ctrl-C, which this process handles, and a light Keras."""
    backend = os.environ.get("KERAS_BACKEND")
    # None of them computes with Keras, and its NumPy backend takes neither TensorFlow's seconds nor its memory.
    os.environ["KERAS_BACKEND"] = "numpy"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if backend is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = backend


def _prepare_worker() -> None:
    import dask

    # Processes are parallel already.
    dask.config.set(scheduler="synchronous")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  the process was started by another one
    parent.join()
    os._exit(1)
