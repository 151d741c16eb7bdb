"""How much load the local server holds: what gRPC adds, throughput, latencies and memory, and a soak.

The server runs in a process of its own, the clients in threads of this one, and both on the same cores; every answer is
compared with the model's in process. Requests of a cell have two lengths, so that batches are padded.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import grpc
import keras
import numpy as np
import psutil
from spinet_client import Client, ServingError

from export.comparison import limit
from export.saved_model import export_saved_model
from serving.session import SavedModelSession
from spinet_tf import SPInet
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.inference.model import load_model

EPILOG = """examples:
  python -m tests.benchmarks.serving
  python -m tests.benchmarks.serving --model paper --sizes 32 64 128 --clients 1 4 --repeats 9
  python -m tests.benchmarks.serving --soak 600
"""

BATCHING = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: true
"""

# The soak keeps so many clients at a server that takes so many requests: three of four are refused at any time.
SOAK_CLIENTS, SOAK_REQUESTS, SOAK_SIZE = 32, 8, 64
# How much the server's memory may grow between the second fifth of the soak and the last.
MOST_GROWTH = 0.05

MIB = 2**20


class Case(NamedTuple):
    """A request and its answer."""

    images: np.ndarray
    num_frames: np.ndarray
    expected: np.ndarray

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "num_frames": self.num_frames}


@dataclass
class Result:
    """What a number of clients saw.

    Attributes:
        latencies: seconds of each answered request.
        refused: requests that got RESOURCE_EXHAUSTED.
        errors: what else went wrong.
        seconds: how long it took.
        memory: bytes of the server, at equal intervals.
    """

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentiles(self) -> str:
        return " | ".join(f"{1000 * value:,.0f}" for value in np.percentile(self.latencies, [50, 95, 99]))


def open_model(name: str) -> keras.Model:
    """The paper's network, a small one, or a file's; the first two are untrained, which makes no difference here."""
    keras.utils.set_random_seed(1)
    if name == "small":
        return SPInet(filters=8, tefa_blocks=1, bottleneck=2)
    return SPInet() if name == "paper" else load_model(name)


def cases(session: SavedModelSession, size: int, frames: int) -> list[Case]:
    """Requests of both lengths, and what the model answers in process."""
    rng = np.random.default_rng(size)
    made = []
    for length in sorted({frames, max(1, frames * 3 // 4)}, reverse=True):
        images = rng.integers(1, 10000, (1, length, size, size, 12), np.uint16)
        inputs = {"images": images, "num_frames": np.array([length], np.int32)}
        made.append(Case(**inputs, expected=session.run(inputs)["probabilities"]))
    return made


@contextmanager
def served(folder: Path, flags: list[str], batching: bool) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: its address, and the process."""
    if batching:
        (folder / "batching.config").write_text(BATCHING)
        flags = [*flags, "--enable_batching", f"--batching_parameters_file={folder / 'batching.config'}"]
    argv = [sys.executable, "-m", "serving.server", "--model_base_path", str(folder / "model"), "--port=0", *flags]
    with (
        open(folder / "server.log", "w+") as log,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            line = process.stdout.readline().decode()
            if not line.startswith("serving"):
                log.seek(0)
                raise SpinetError(f"The server did not start: {log.read()}")
            yield line.split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()


def ask(address: str, asked: list[Case], offset: int, until: float, result: Result, lock: threading.Lock) -> None:
    """One client's requests, one after the other, at least one of them answered, until it is time."""
    rng = np.random.default_rng(offset)
    answered = 0
    # No retries: a refusal is counted, and the next request comes a little later.
    with Client(address, retries=0, timeout=600) as client:
        for case in itertools.islice(itertools.cycle(asked), offset, None):
            started = time.monotonic()
            if answered and started >= until:
                return
            error = None
            try:
                answer = client.predict(case.images, case.num_frames)
                if not np.abs(answer - case.expected).max() <= limit(case.expected):
                    error = "a wrong answer"
            except ServingError as raised:
                if raised.code == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    with lock:
                        result.refused += 1
                    if started >= until:
                        return
                    time.sleep(rng.uniform(0.05, 0.15))
                    continue
                error = str(raised)
            answered += 1
            with lock:
                result.latencies.append(time.monotonic() - started)
                if error:
                    result.errors.append(error)


def load(address: str, process: psutil.Process, asked: list[Case], clients: int, seconds: float) -> Result:
    """Put a number of clients at a server for some time."""
    result, lock, ended = Result(), threading.Lock(), threading.Event()
    pause = max(0.01, min(0.2, seconds / 50))

    def watch() -> None:
        while not ended.is_set():
            result.memory.append(process.memory_info().rss)
            ended.wait(pause)

    started = time.monotonic()
    threads = [
        threading.Thread(target=ask, args=(address, asked, offset, started + seconds, result, lock))
        for offset in range(clients)
    ]
    watcher = threading.Thread(target=watch)
    for thread in [watcher, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    result.seconds = time.monotonic() - started
    ended.set()
    watcher.join()
    return result


def bare_rate(session: SavedModelSession, asked: list[Case], threads: int, seconds: float) -> float:
    """Requests a second that the model answers in process, asked by a number of threads."""
    until = time.monotonic() + seconds
    counts = [0] * threads

    def run(index: int) -> None:
        for case in itertools.islice(itertools.cycle(asked), index, None):
            session.run(case.inputs)
            counts[index] += 1
            if time.monotonic() >= until:
                return

    started = time.monotonic()
    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - started)


def overhead(session: SavedModelSession, address: str, case: Case, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of one request in process and over gRPC, in turns, so that both see the same machine."""
    bare, over_grpc = [], []
    with Client(address, timeout=600) as client:
        for _ in range(repeats + 1):
            started = time.perf_counter()
            session.run(case.inputs)
            between = time.perf_counter()
            client.predict(case.images, case.num_frames)
            bare.append(between - started)
            over_grpc.append(time.perf_counter() - between)
    # The first of each makes room in memory.
    return np.array(bare[1:]), np.array(over_grpc[1:])


def measure_overhead(folder: Path, session: SavedModelSession, size: int, frames: int, repeats: int) -> None:
    """Print what gRPC adds to the time of one request."""
    case = cases(session, size, frames)[0]
    with served(folder, [], batching=False) as (address, _):
        bare, over_grpc = overhead(session, address, case, repeats)
    added = np.median(over_grpc) - np.median(bare)
    print(f"\nOne request of {size}x{size} pixels and {frames} frames, {case.images.nbytes / MIB:.1f} MiB")
    for name, seconds in (("in process", bare), ("over gRPC", over_grpc)):
        print(
            f"{name}: median of {repeats} {np.median(seconds):.3f} s, range {seconds.min():.3f}-{seconds.max():.3f} s"
        )
    print(f"gRPC adds {1000 * added:.0f} ms, {added / np.median(bare):.1%} (goal: at most 5%)", flush=True)


def measure_load(folder: Path, session: SavedModelSession, arguments: argparse.Namespace) -> list[str]:
    """Print throughput, latencies and memory for every size, with and without batching; return what went wrong."""
    print("\n| batching | tile | clients | tiles/s | of the bare model | p50 ms | p95 ms | p99 ms | server MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    errors = []
    flags = [f"--grpc_max_threads={max(arguments.clients)}"]
    # Each alone, so that neither takes the other's cores.
    asked = {size: cases(session, size, arguments.frames) for size in arguments.sizes}
    bare = {
        size: max(bare_rate(session, asked[size], threads, arguments.seconds) for threads in (1, 2)) for size in asked
    }
    for batching in (False, True):
        with served(folder, flags, batching) as (address, process):
            for size, clients in itertools.product(arguments.sizes, arguments.clients):
                result = load(address, process, asked[size], clients, arguments.seconds)
                errors += result.errors
                print(
                    f"| {'on' if batching else 'off'} | {size} | {clients} | {result.rate:.2f} "
                    f"| {result.rate / bare[size]:.2f} | {result.percentiles()} | {max(result.memory) / MIB:,.0f} |",
                    flush=True,
                )
    rates = ", ".join(f"{size}: {rate:.2f}" for size, rate in bare.items())
    print(f"\nTiles/s of the bare model, of one thread or two, whichever is more (goal: 0.95 of it): {rates}")
    return errors


def soak(folder: Path, session: SavedModelSession, frames: int, seconds: float) -> list[str]:
    """Keep the server saturated; return what went wrong."""
    asked = cases(session, SOAK_SIZE, frames)
    with served(folder, [f"--grpc_max_threads={SOAK_REQUESTS}"], batching=True) as (address, process):
        result = load(address, process, asked, SOAK_CLIENTS, seconds)
    print(f"\n{SOAK_CLIENTS} clients at a server that takes {SOAK_REQUESTS} requests, {result.seconds:.0f} s")
    print(f"{len(result.latencies)} tiles of {SOAK_SIZE}x{SOAK_SIZE}, {result.rate:.2f}/s; {result.refused} refused")
    print(f"p50 | p95 | p99 ms: {result.percentiles()}")
    fifths = [np.median(part) / MIB for part in np.array_split(result.memory, 5)]
    print(f"server's memory in MiB, each fifth's median: {', '.join(f'{fifth:,.0f}' for fifth in fifths)}", flush=True)
    errors = result.errors
    if not result.refused:
        errors.append("The server was not saturated: nothing was refused")
    if fifths[-1] > fifths[1] * (1 + MOST_GROWTH):
        errors.append(f"The server's memory grew from {fifths[1]:,.0f} to {fifths[-1]:,.0f} MiB")
    return errors


@reports_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.serving",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="small", help="small, paper, or a .keras file (default: %(default)s)")
    add("--frames", type=int, default=20, help="of the longer requests (default: %(default)s)")
    add("--sizes", type=int, nargs="+", default=[32, 64, 128, 256], metavar="N", help="sides of the tiles")
    add("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], metavar="N", help="how many at once")
    add("--seconds", type=float, default=5.0, help="for each cell of the table (default: %(default)s)")
    add("--overhead-size", type=int, default=128, metavar="N", help="where gRPC is compared (default: %(default)s)")
    add("--repeats", type=int, default=9, help="of that comparison (default: %(default)s)")
    add("--soak", type=float, metavar="SECONDS", help="saturate the server for so long, and nothing else")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = open_model(arguments.model)
        export_saved_model(model, folder / "model", warmup_lengths=[arguments.frames], warmup_sizes=[32])
        with SavedModelSession(folder / "model" / "1") as session:
            if arguments.soak:
                errors = soak(folder, session, arguments.frames, arguments.soak)
            else:
                measure_overhead(folder, session, arguments.overhead_size, arguments.frames, arguments.repeats)
                errors = measure_load(folder, session, arguments)
    print(f"\n{len(errors)} errors" + "".join(f"\n  {error}" for error in sorted(set(errors))))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
