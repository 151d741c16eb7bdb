"""How fast SPInet runs and trains, beside the same network in PyTorch, exported networks, and the machine's limits.

Everything is timed in a process of its own, and those of a case take turns. The peer in PyTorch is first shown to give
our network's answers with the same weights. With KERAS_BACKEND=jax no TensorFlow is needed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from tests.benchmarks.speed.processes import CannotRun, Contender, Timing, once, race, set_up
from tests.benchmarks.speed.spec import CONFIGURATIONS, PRECISIONS, TASKS, Spec
from tests.benchmarks.speed.tables import TIMINGS_HEAD, limits_table, stages_table, timings_rows

EPILOG = """examples:
  python -m tests.benchmarks.speed
  python -m tests.benchmarks.speed --cases forward --sizes 64 128 256 --batches 1 --rounds 3
  python -m tests.benchmarks.speed --cases step --batches 1 2 4 --rivals pytorch
  python -m tests.benchmarks.speed --cases limits stages
  KERAS_BACKEND=jax python -m tests.benchmarks.speed --device gpu --batches 8 16 32 64
"""

CASES = ("limits", *TASKS, "stages")
RIVALS = ("pytorch", "compiled", "onnxruntime", "openvino")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "onnxruntime", "openvino")


def ask(module: str, function: str, *arguments) -> Any:
    """What a function of this package's `module` returns, in a process of its own."""
    return once(f"{__package__}.{module}", function, *arguments)


def tried(name: str, action: Callable[[], None]) -> bool:
    """Whether a rival could be made ready; if not, a line says why."""
    try:
        action()
    except CannotRun as reason:
        print(f"{name} is left out: {reason}", flush=True)
        return False
    return True


def prepare_pytorch(spec: Spec, tasks: list[str], layouts: dict[str, str]) -> None:
    """Show that the peer is equal, and find the layout in which it is faster."""
    distances = ask("pytorch", "prove_equal", spec)
    said = ", ".join(f"{distance:.1e} ({task})" for task, distance in distances.items())
    print(f"PyTorch's answers differ from ours by at most {said} of their standard deviation.", flush=True)
    for task in tasks:
        layouts[task] = ask("pytorch", "faster_layout", spec.with_(task=task))
        print(f"PyTorch's faster layout ({task}): {layouts[task]}.", flush=True)


def contenders(spec: Spec, rivals: set[str], precisions: list[str], layouts: dict[str, str]) -> Iterator[Contender]:
    """Those of one case."""

    def contender(name: str, module: str, precision: str, variant: str = "") -> Contender:
        return Contender(name, f"{__package__}.{module}", spec.with_(precision=precision, variant=variant))

    for precision in precisions:
        yield contender("this package", "ours", precision)
        name, variant = {"forward": ("folded", "folded"), "step": ("rematerialised", "remat")}[spec.task]
        yield contender(f"this package, {name}", "ours", precision, variant)
    for precision in precisions:
        if "pytorch" in rivals:
            yield contender("PyTorch", "pytorch", precision, layouts[spec.task])
        if "compiled" in rivals:
            # In training it fails for the other layout, with an AssertionError about strides.
            yield contender("PyTorch, compiled", "pytorch", precision, "contiguous compiled")
        if "onnxruntime" in rivals and spec.task == "forward" and precision == "float32":
            yield contender("ONNX Runtime", "runtimes", precision, "onnxruntime")
        if "openvino" in rivals and spec.task == "forward":
            yield contender("OpenVINO", "runtimes", precision, "openvino")


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on and with."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"processor": model, "threads": threads, "packages": versions}


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    arguments = parse(argv)
    gpu = arguments.device == "gpu"
    set_up(arguments.threads)
    about = machine(arguments.threads)
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    print(f"{about['processor']}, {arguments.threads} threads; {packages}", flush=True)
    found: dict[str, Any] = {"machine": about, "limits": {}, "timings": [], "stages": {}}
    with tempfile.TemporaryDirectory() as folder:
        spec = Spec(arguments.model, folder, frames=arguments.frames, size=arguments.sizes[0], gpu=gpu)
        try:
            found["macs"] = ask("ours", "reference", spec)
            per_pixel = {name: macs / (spec.frames * spec.size**2) for name, macs in found["macs"].items()}
            if "limits" in arguments.cases:
                found["limits"] = ask("limits", "measure", spec, arguments.rounds)
                print(f"\n{limits_table(found['limits'])}\n", flush=True)
            if "stages" in arguments.cases:
                for precision in arguments.precisions:
                    asked = spec.with_(precision=precision)
                    found["stages"][precision] = ask("stages", "measure", asked, arguments.rounds)
                print(f"\n{stages_table(found['stages'])}\n", flush=True)
        except CannotRun as reason:
            raise SpinetError(f"Our own network cannot be measured: {reason}") from reason
        for number, timings in enumerate(measure(arguments, spec)):
            rows = timings_rows(timings, per_pixel, found["limits"])
            print(rows if number else f"\n{TIMINGS_HEAD}\n{rows}", flush=True)
            found["timings"] += [asdict(timing) for timing in timings]
    if arguments.json:
        with replacing(arguments.json, overwrite=True) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
        print(f"\nWrote {arguments.json}")


def measure(arguments: argparse.Namespace, spec: Spec) -> Iterator[list[Timing]]:
    """One case after the other, of those that were asked for."""
    tasks = [task for task in TASKS if task in arguments.cases]
    rivals = set(arguments.rivals) if tasks else set()
    layouts: dict[str, str] = {}
    if rivals & {"pytorch", "compiled"} and not tried("PyTorch", lambda: prepare_pytorch(spec, tasks, layouts)):
        rivals -= {"pytorch", "compiled"}
    exported = {"onnxruntime", "openvino"} if "forward" in tasks and not spec.gpu else set()
    if rivals & exported and not tried("The exported network", lambda: ask("ours", "export", spec)):
        exported = set()
    rivals &= {"pytorch", "compiled"} | exported
    for task, size, batch in product(tasks, arguments.sizes, arguments.batches):
        case = spec.with_(task=task, size=size, batch=batch)
        racing = list(contenders(case, rivals, arguments.precisions, layouts))
        yield race(racing, arguments.rounds, together=not spec.gpu)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of the command, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.speed",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=list(CASES), help="what to measure (default: all)")
    add("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS), help="who is timed beside us (default: all)")
    add("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="(default: both)")
    add("--batches", type=int, nargs="+", default=[1, 2], metavar="N", help="patches (default: %(default)s)")
    add("--sizes", type=int, nargs="+", default=[32], metavar="N", help="sides of patches (default: %(default)s)")
    add("--frames", type=int, default=20, help="of each patch (default: %(default)s)")
    add("--rounds", type=int, default=5, help="turns of each, of one second or one call (default: %(default)s)")
    add("--model", choices=CONFIGURATIONS, default="paper", help="size of the network (default: %(default)s)")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="(default: one per core, %(default)s here)")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="gpu needs KERAS_BACKEND=jax (default: %(default)s)")
    add("--json", metavar="FILE", help="also write every sample into a file")
    arguments = parser.parse_args(argv)
    if min(*arguments.batches, *arguments.sizes, arguments.frames, arguments.rounds, arguments.threads) < 1:
        raise SpinetError("Expected batches, sizes, frames, rounds and threads above 0.")
    if arguments.device == "gpu" and os.environ.get("KERAS_BACKEND") != "jax":
        raise SpinetError("A GPU is measured on the JAX backend of Keras. Set KERAS_BACKEND=jax.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
