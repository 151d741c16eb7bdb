"""Processes that hold one thing to be timed each, so that they can take turns and their memory is their own."""

import importlib
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.speed.spec import Spec

WARM_UP = 2
# Of one contender in one round: a single call where it takes longer.
ROUND_SECONDS = 1.0
# Another is started beside those that run if so many times the memory of the largest of them is free.
MARGIN = 2


class CannotRun(Exception):  # noqa: N818
    """Something cannot be run here; the message says why."""


@dataclass
class Timing:
    """What was measured of one contender in one case.

    Attributes:
        name: of the contender.
        spec: what it ran.
        seconds: of every call.
        cpu_seconds: of all cores for a call, the mean of each turn. Other work on the machine changes it less.
        peak_bytes: the most memory that its process, or on a GPU the device, has held.
        failure: why there are no figures.
    """

    name: str
    spec: Spec
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    failure: str = ""


class Contender:
    """Something to be timed, in a process of its own.

    Args:
        name: for the tables.
        module: its `prepare(spec)` returns a function without arguments, which is called when its result is complete.
            Its `peak_bytes()`, where there is one, says how much memory a GPU has held.
        spec: what `prepare` is given.
    """

    def __init__(self, name: str, module: str, spec: Spec):
        self.timing = Timing(name, spec)
        self._module = module

    def start(self) -> bool:
        """Prepare and warm up; return whether that went well, as the other methods do."""
        self._process = fresh_process()
        return self._try(_start, self._module, self.timing.spec)

    def take_turn(self) -> bool:
        return self._try(_take_turn, self._module, self.timing.spec)

    def stop(self) -> None:
        self._process.shutdown()

    def _try(self, function: Callable, *arguments) -> bool:
        try:
            seconds, cpu_seconds, self.timing.peak_bytes = _result(self._process, function, *arguments)
        except CannotRun as reason:
            self.timing.failure = str(reason)
            self.stop()
            return False
        self.timing.seconds += seconds
        self.timing.cpu_seconds += cpu_seconds
        return True


def race(contenders: list[Contender], rounds: int, together: bool) -> list[Timing]:
    """Time all contenders.

    Args:
        contenders: those of one case.
        rounds: turns of each.
        together: whether they take turns, as many as fit into memory; otherwise one begins when the other has ended.

    Returns:
        A timing for each.
    """
    waiting = list(contenders)
    while waiting:
        running: list[Contender] = []
        while waiting and (not running or (together and _fits_beside(running))):
            contender = waiting.pop(0)
            if contender.start():
                running.append(contender)
        for _ in range(rounds):
            running = [contender for contender in running if contender.take_turn()]
        for contender in running:
            contender.stop()
    return [contender.timing for contender in contenders]


def _fits_beside(running: list[Contender]) -> bool:
    return psutil.virtual_memory().available > MARGIN * max(contender.timing.peak_bytes for contender in running)


def once(module: str, function: str, *arguments) -> Any:
    """The result of a module's function, in a process of its own.

    Raises:
        CannotRun: if it fails.
    """
    with fresh_process() as process:
        return _result(process, _call, module, function, arguments)


def fresh_process() -> Executor:
    """One process that has done nothing yet."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _result(process: Executor, function: Callable, *arguments) -> Any:
    try:
        return process.submit(function, *arguments).result()
    except BrokenProcessPool as error:
        raise CannotRun("the process was killed, most likely for its memory") from error
    except ImportError as error:
        raise CannotRun(f"{error.name} is not installed: pip install 'spinet-tf[bench]'") from error
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise CannotRun(f"{type(error).__name__}: {lines[0][:200]}") from error


# In the process: what was prepared.
_prepared: dict[tuple[str, Spec], Callable[[], object]] = {}


def _call(module: str, function: str, arguments: tuple) -> Any:
    return getattr(importlib.import_module(module), function)(*arguments)


def _start(module: str, spec: Spec) -> tuple[list[float], list[float], int]:
    run = _prepared[module, spec] = _call(module, "prepare", (spec,))
    timed(run, WARM_UP)
    return [], [], _peak_bytes(module, spec)


def _take_turn(module: str, spec: Spec) -> tuple[list[float], list[float], int]:
    seconds: list[float] = []
    cpu_started = time.process_time()
    while sum(seconds) < ROUND_SECONDS:
        seconds += timed(_prepared[module, spec], 1)
    return seconds, [(time.process_time() - cpu_started) / len(seconds)], _peak_bytes(module, spec)


def timed(run: Callable[[], object], calls: int) -> list[float]:
    """The seconds of so many calls."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


def _peak_bytes(module: str, spec: Spec) -> int:
    if spec.gpu:
        return _call(module, "peak_bytes", ())
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage would count what the parent held when it started this process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def set_up(threads: int) -> None:
    """Give the processes to come `threads` threads each, which sleep while they wait."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(threads)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    # Processes on one GPU come one after the other, and each should show what it needs.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
