"""Damage files of every kind at random, and see that each opens or is refused with the project's own error.

    nice -n 19 python -m tests.fuzz --count 1000

Cases run in child processes, many in each, so that one that crashes or hangs is noticed and told by its number, and
the others go on. A case fails if it ends in anything but success or `SpinetError`, takes longer than `--seconds`,
makes the process larger by more than `--megabytes`, or starts a program, connects to a server or writes a file. A
failure is repeated by its number: `--kind NetCDF --first 123 --count 1`.
"""

import argparse
import contextlib
import json
import os
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from spinet_tf.errors import SpinetError, reports_errors
from tests.fuzz_mutations import mutated

# What no file may make a reader do; see https://docs.python.org/3/library/audit_events.html
_FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect"}


PASSED = ("opened", "refused")

# Kind and number.
Case = tuple[str, int]


class Result(NamedTuple):
    """How a case ended: "opened", "refused", or a failure, with what was said."""

    kind: str
    case: int
    outcome: str
    said: str


def kinds() -> dict:
    """The kinds of files; imported when asked for, so that a backend of Keras can be chosen before."""
    from tests.fuzz_sources import KINDS

    return KINDS


class Breach(BaseException):
    """A reader did what no file may make it do; no handler of ordinary errors may swallow it."""


# === in a child process ===


def work(cases: list[Case], seed: int, megabytes: int) -> None:
    """Run cases, (kind, number), one after the other; a line of JSON before and after each."""
    sys.addaudithook(_watch)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        sources: dict[str, Path] = {}
        for kind, case in cases:
            pristine, damaged = Path(folder, kind), Path(folder, "damaged")
            if kind not in sources:
                pristine.mkdir()
                sources[kind] = kinds()[kind].make(pristine)
                _open(kind, sources[kind])  # so that what is loaded on first use is no case's memory
            print(json.dumps([kind, case]), flush=True)
            shutil.copytree(pristine, damaged)
            _damage(damaged, kind, seed, case)
            outcome = _outcome(kind, damaged / sources[kind].relative_to(pristine), megabytes)
            print(json.dumps([kind, case, *outcome]), flush=True)
            shutil.rmtree(damaged)


def _damage(folder: Path, kind: str, seed: int, case: int) -> None:
    rng = np.random.default_rng([seed, list(kinds()).index(kind), case])
    files = sorted(path for pattern in kinds()[kind].files for path in folder.glob(pattern) if path.is_file())
    file = files[rng.integers(len(files))]
    if kinds()[kind].member is None:
        file.write_bytes(mutated(file.read_bytes(), rng))
        return
    # A new archive, so that its checksums are right.
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content[kinds()[kind].member] = mutated(content[kinds()[kind].member], rng)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def _outcome(kind: str, path: Path, megabytes: int) -> tuple[str, str]:
    """How a case ended, and what was said."""
    before = _peak()
    try:
        with _limited(megabytes):
            _open(kind, path)
        outcome, said = "opened", ""
    except SpinetError as error:
        outcome, said = ("memory" if _memory_ran_out(error) else "refused"), str(error)
    except BaseException as error:
        outcome, said = type(error).__name__, repr(error)
    if (grown := _peak() - before) > megabytes:
        outcome, said = "memory", f"{grown} MB more"
    return outcome, said


def _open(kind: str, path: Path) -> None:
    global _watching
    _watching = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kinds()[kind].open(path)
    finally:
        _watching = False


_watching = False


def _watch(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == "subprocess.Popen" and any("hdf5_probe" in str(word) for word in arguments[1]):
        return  # it opens files first that crash it
    named = event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[1], str)
    writes = named and set(arguments[1]) & set("wax+")
    if event in _FORBIDDEN or (writes and not str(arguments[0]).startswith(tempfile.gettempdir())):
        raise Breach(f"{event} {arguments}")


@contextlib.contextmanager
def _limited(megabytes: int):
    """Let the process ask for so much memory more, used or not."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    # Three times as much as may be used: Blosc asks for up to 2 GiB, by a chunk's head, before it looks at the rest.
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * (megabytes << 20), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _peak() -> int:
    """The most memory that this process ever used, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _memory_ran_out(error: BaseException | None) -> bool:
    """Whether an error comes of memory that a reader asked for and did not get."""
    while error is not None:
        if isinstance(error, MemoryError) or "Unable to allocate" in str(error) or "Out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


# === in the parent ===


def fuzz(cases: Iterable[Case], seed: int = 0, seconds: float = 20, megabytes: int = 1024) -> Iterator[Result]:
    """Yield the result of each case, (kind, number); a child that crashes or hangs is replaced."""
    waiting = list(cases)
    while waiting:
        begun, ending = False, "crashes"
        with tempfile.TemporaryFile() as errors:
            with _child(waiting, seed, megabytes, errors) as child:
                for line in _lines(child, seconds):
                    if line is None:
                        ending = "hangs"
                        break
                    begun = True
                    if len(values := json.loads(line)) == len(Result._fields):
                        yield Result(*values)
                        waiting.pop(0)
            errors.seek(0)
            said = f"{child.returncode}: {errors.read().decode(errors='replace')[-300:]}"
        if not begun:
            raise SpinetError(f"{waiting[0][0]} cannot be opened before it is damaged: {said}")
        if waiting:
            yield Result(*waiting.pop(0), ending, said)


@contextlib.contextmanager
def _child(cases: list[Case], seed: int, megabytes: int, errors: IO[bytes]) -> Iterator[subprocess.Popen]:
    """A process that runs the cases, killed at the end."""
    # Scenes need no TensorFlow, which takes seconds to load.
    backend = "tensorflow" if any(".keras" in kind for kind, _ in cases) else "numpy"
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(cases).encode())
        given.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--work", "--seed", str(seed), "--megabytes", str(megabytes)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "KERAS_BACKEND": backend},
        )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _lines(child: subprocess.Popen, seconds: float):
    """Lines that a child writes; None, and no more, if it is silent for too long."""
    buffer = b""
    # Until the first line the child imports and writes the source.
    patience = seconds + 120
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=patience):
                yield None
                return
            part = os.read(child.stdout.fileno(), 1 << 16)
            if not part:
                return
            patience = seconds
            *lines, buffer = (buffer + part).split(b"\n")
            yield from lines


def table(results: list[Result]) -> str:
    """Outcomes by kind."""
    lines = [f"{'kind':18} {'cases':>6} {'opened':>7} {'refused':>8}  failed"]
    for kind in dict.fromkeys(result.kind for result in results):
        outcomes = Counter(result.outcome for result in results if result.kind == kind)
        opened, refused = outcomes.pop("opened", 0), outcomes.pop("refused", 0)
        failed = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()) or "none"
        lines.append(f"{kind:18} {opened + refused + outcomes.total():6} {opened:7} {refused:8}  {failed}")
    return "\n".join(lines)


@reports_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kind", action="append", choices=kinds(), help="a kind of file, as often as wished (default: all)"
    )
    parser.add_argument("--count", type=int, default=1000, help="cases of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other damage (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="that a case may take (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=1024, help="that a case may take (default: %(default)s)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.work:
        work(json.load(sys.stdin), args.seed, args.megabytes)
        return 0
    results: list[Result] = []
    for kind in args.kind or kinds():
        started = time.monotonic()
        cases = ((kind, case) for case in range(args.first, args.first + args.count))
        for result in fuzz(cases, args.seed, args.seconds, args.megabytes):
            results.append(result)
            if result.outcome not in PASSED:
                print(f"{result.kind} {result.case}: {result.outcome}: {result.said}", flush=True)
        print(f"{kind}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(table(results))
    return int(any(result.outcome not in PASSED for result in results))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    sys.exit(main())
