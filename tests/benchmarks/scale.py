"""How time and memory of SPInet grow with frames, pixels, patches and TEFA blocks, beside what a formula says.

Each point is measured in a process of its own, and the constants of the formula are fitted to all of them. Those of
memory are what `spinet_tf.models.cost` has; those of time are the machine's.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import nnls

from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.models.cost import Workload, memory_terms
from tests.benchmarks.speed.processes import Contender, race, set_up
from tests.benchmarks.speed.spec import BANDS, CONFIGURATIONS, PRECISIONS, SCALE, TASKS, Spec

EPILOG = """examples:
  python -m tests.benchmarks.scale --output scale
  python -m tests.benchmarks.scale --output scale --tasks forward --precision bfloat16 --curves frames size
"""

# What changes, and the values it takes in a forward pass and in a step of training; the rest is `Spec`'s default.
CURVES: dict[str, tuple[dict[str, list[int]], dict[str, int]]] = {
    "frames": ({"forward": [4, 8, 16, 32, 64], "step": [4, 16, 64]}, {}),
    "size": ({"forward": [16, 32, 64, 128, 256, 512], "step": [16, 32, 64]}, {"frames": 4}),
    "batch": ({"forward": [1, 2, 4, 8, 16], "step": [1, 4]}, {"frames": 4}),
    "blocks": ({"forward": [1, 2, 4, 8, 16], "step": [1, 4, 16]}, {}),
}
COLOURS = {"forward": "#2166ac", "step": "#7a3e0c"}
TITLES = {"frames": "frames", "size": "side of the images", "batch": "patches", "blocks": "TEFA blocks"}


class Point(NamedTuple):
    """What was measured of one thing.

    Attributes:
        curve: a key of `CURVES`.
        spec: what was run.
        seconds: the median of its calls.
        cpu_seconds: of all cores, likewise.
        peak_bytes: the most memory that its process held.
    """

    curve: str
    spec: Spec
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def value(self) -> int:
        """Where it lies on its curve."""
        return getattr(self.spec, self.curve)

    @property
    def workload(self) -> Workload:
        """What the formulas take."""
        sizes = self.spec.network
        return Workload(
            self.spec.batch,
            self.spec.frames,
            self.spec.size**2,
            sizes["filters"],
            sizes["tefa_blocks"],
            SCALE,
            1,
            BANDS,
        )


def specs(task: str, precision: str, model: str, curves: list[str], most: int | None) -> list[tuple[str, Spec]]:
    """What is to be measured, curve by curve; values of a curve above `most` are left out."""
    base = Spec(model, "", task=task, precision=precision, variant="folded" if task == "forward" else "")
    base = base.with_(blocks=CONFIGURATIONS[model]["tefa_blocks"])
    return [
        (curve, base.with_(**{**CURVES[curve][1], curve: value}))
        for curve in curves
        for value in CURVES[curve][0][task]
        if most is None or value <= most
    ]


def measure(wanted: list[tuple[str, Spec]], rounds: int) -> list[Point]:
    """Every point, printed as it comes; what two curves share is measured once.

    Raises:
        SpinetError: if one cannot be run.
    """
    found: dict[Spec, tuple[float, float, int]] = {}
    points = []
    for curve, spec in wanted:
        if spec not in found:
            (timing,) = race([Contender("this package", "tests.benchmarks.speed.ours", spec)], rounds, together=False)
            if timing.failure:
                raise SpinetError(f"A {spec.task} with {getattr(spec, curve)} {TITLES[curve]} failed: {timing.failure}")
            found[spec] = float(np.median(timing.seconds)), float(np.median(timing.cpu_seconds)), timing.peak_bytes
        points.append(Point(curve, spec, *found[spec]))
        print(
            f"{spec.task}, {points[-1].value} {TITLES[curve]}: {points[-1].seconds:.3f} s", file=sys.stderr, flush=True
        )
    return points


def time_terms(load: Workload) -> list[float]:
    """What time is a sum of: arithmetic, passes over features and over attention weights, and a call."""
    return [load.macs, load.units * load.features, load.units * load.attention, 1.0]


def fitted(points: list[Point], terms: Callable[[Point], list[float]], wanted: Callable[[Point], float]) -> np.ndarray:
    """Constants of the terms, none negative, with the least sum of squares of relative errors."""
    target = np.array([wanted(point) for point in points])
    matrix = np.array([terms(point) for point in points]) / target[:, None]
    scale = matrix.max(axis=0)
    return nnls(matrix / scale, np.ones(len(target)))[0] / scale


class Fit(NamedTuple):
    """The formula of one task.

    Attributes:
        time: constants of `time_terms`, in seconds.
        memory: constants of `memory_terms`.
    """

    time: np.ndarray
    memory: np.ndarray

    @classmethod
    def to(cls, points: list[Point]) -> "Fit":
        """Fitted to the points of one task."""
        return cls(
            fitted(points, lambda point: time_terms(point.workload), lambda point: point.cpu_seconds),
            fitted(points, _memory_terms, lambda point: point.peak_bytes),
        )

    def cpu_seconds(self, point: Point) -> float:
        """What it says of a point's time."""
        return float(self.time @ time_terms(point.workload))

    def peak_bytes(self, point: Point) -> float:
        """What it says of a point's memory."""
        return float(self.memory @ _memory_terms(point))


def _memory_terms(point: Point) -> list[float]:
    return memory_terms(point.workload, training=point.spec.task == "step")


def table(points: list[Point], fits: dict[str, Fit]) -> str:
    """All points and what the formula says of them, in Markdown."""
    lines = [
        "| task | what changes | | seconds | CPU seconds | by the formula | peak memory | by the formula |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in points:
        fit = fits[point.spec.task]
        lines.append(
            f"| {point.spec.task} | {TITLES[point.curve]} | {point.value} | {point.seconds:.3f} | "
            f"{point.cpu_seconds:.3f} | {fit.cpu_seconds(point):.3f} | {point.peak_bytes / 1e9:.2f} GB | "
            f"{fit.peak_bytes(point) / 1e9:.2f} GB |"
        )
    return "\n".join(lines)


def draw(points: list[Point], fits: dict[str, Fit]) -> Figure:
    """A column for each curve: time above, memory below; dots are measured, lines are the formula."""
    curves = [curve for curve in CURVES if any(point.curve == curve for point in points)]
    figure = Figure(figsize=(3 * len(curves), 5), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for column, curve in enumerate(curves):
        for task, fit in fits.items():
            shown = [point for point in points if (point.curve, point.spec.task) == (curve, task)]
            values = [point.value for point in shown]
            colour = COLOURS[task]
            times, sizes = rows[0, column], rows[1, column]
            times.loglog(values, [point.cpu_seconds for point in shown], "o", color=colour, label=task)
            times.loglog(values, [fit.cpu_seconds(point) for point in shown], "-", color=colour)
            sizes.loglog(values, [point.peak_bytes / 1e9 for point in shown], "o", color=colour)
            sizes.loglog(values, [fit.peak_bytes(point) / 1e9 for point in shown], "-", color=colour)
        rows[1, column].set_xlabel(TITLES[curve])
        for axes in rows[:, column]:
            axes.set_xticks(CURVES[curve][0]["forward"], list(map(str, CURVES[curve][0]["forward"])))
            axes.minorticks_off()
    rows[0, 0].set_ylabel("CPU seconds")
    rows[1, 0].set_ylabel("peak memory, GB")
    rows[0, 0].legend(frameon=False)
    return figure


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.scale",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="NAME", help="NAME.md, NAME.json and NAME.png are written")
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(default: both)")
    add("--precision", choices=PRECISIONS, default="float32", help="(default: %(default)s)")
    add("--curves", nargs="+", choices=list(CURVES), default=list(CURVES), help="(default: all)")
    add("--most", type=int, help="leave out values above this")
    add("--model", choices=CONFIGURATIONS, default="paper", help="size of the network (default: %(default)s)")
    add("--rounds", type=int, default=1, help="turns of each, of one second or one call (default: %(default)s)")
    arguments = parser.parse_args(argv)
    set_up(len(os.sched_getaffinity(0)))
    points: list[Point] = []
    for task in arguments.tasks:
        wanted = specs(task, arguments.precision, arguments.model, arguments.curves, arguments.most)
        points += measure(wanted, arguments.rounds)
    fits = {task: Fit.to([point for point in points if point.spec.task == task]) for task in arguments.tasks}
    text = table(points, fits)
    print(text)
    constants = {task: {name: list(values) for name, values in fit._asdict().items()} for task, fit in fits.items()}
    content = {"constants": constants, "points": [{**point._asdict(), "spec": asdict(point.spec)} for point in points]}
    figure = draw(points, fits)
    for suffix, write in (
        (".md", lambda path: path.write_text(text + "\n")),
        (".json", lambda path: path.write_text(json.dumps(content, indent=1) + "\n")),
        (".png", lambda path: figure.savefig(path, dpi=90)),
    ):
        path = arguments.output.with_suffix(suffix)
        with replacing(path, overwrite=True) as temporary:
            write(temporary)
        print(f"Wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
