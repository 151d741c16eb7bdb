"""What was measured, in Markdown."""

from collections.abc import Iterable

import numpy as np

from tests.benchmarks.speed.processes import Timing
from tests.benchmarks.speed.spec import Spec

# The backward pass takes each product twice.
STEP_WORK = 3


def spread(samples: Iterable[float], digits: int = 3) -> str:
    """The median, and the least and the greatest in brackets."""
    samples = list(samples)
    return f"{np.median(samples):,.{digits}f} ({min(samples):,.{digits}f}-{max(samples):,.{digits}f})"


def limits_table(limits: dict[str, list[float]]) -> str:
    """What the machine can do."""
    rows = [
        f"| {name} | {spread(samples, 0)} | {'GB/s' if name == 'copy' else 'GFLOP/s'} |"
        for name, samples in limits.items()
    ]
    return "\n".join(["| limit | median (range) | |", "|---|---|---|", *rows])


TIMINGS_HEAD = """\
| case | | precision | seconds, median (range) | CPU seconds | peak memory | PyTorch's float32: seconds / these \
| its CPU seconds / these | memory / its | GFLOP/s | of the convolution limit |
|---|---|---|---|---|---|---|---|---|---|---|"""


def timings_rows(timings: list[Timing], macs: dict[str, float], limits: dict[str, list[float]]) -> str:
    """The rows of one case, under `TIMINGS_HEAD`.

    Args:
        timings: of everyone who ran it; they are compared with the one of PyTorch in float32, if there is one.
        macs: multiply-accumulates of one pixel of one frame in a forward pass, by variant; "" for all others.
        limits: see `limits.measure`; empty where they were not measured.
    """
    peers = [timing for timing in timings if timing.name == "PyTorch" and timing.spec.precision == "float32"]
    peer = next((timing for timing in peers if not timing.failure), None)
    rows = [[case(t.spec), t.name, t.spec.precision, *_cells(t, peer, macs, limits)] for t in timings]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def case(spec: Spec) -> str:
    """What a row is about, beside who ran it."""
    return f"{spec.task} {spec.batch} x {spec.frames} x {spec.size} x {spec.size}"


def _cells(timing: Timing, peer: Timing | None, macs: dict[str, float], limits: dict[str, list[float]]) -> list[str]:
    if timing.failure:
        return [timing.failure, *[""] * 7]
    spec = timing.spec
    seconds, cpu_seconds = np.median(timing.seconds), np.median(timing.cpu_seconds)
    macs_of_pixel = macs.get(spec.variant, macs[""]) * (STEP_WORK if spec.task == "step" else 1)
    gflops = 2e-9 * macs_of_pixel * spec.batch * spec.frames * spec.size**2 / seconds
    limit = limits.get(f"convolution {spec.precision}")
    return [
        spread(timing.seconds),
        f"{cpu_seconds:.3f}",
        f"{timing.peak_bytes / 1e9:.2f} GB",
        f"{np.median(peer.seconds) / seconds:.2f}" if peer else "",
        f"{np.median(peer.cpu_seconds) / cpu_seconds:.2f}" if peer else "",
        f"{timing.peak_bytes / peer.peak_bytes:.2f}" if peer else "",
        f"{gflops:,.0f}",
        f"{gflops / np.median(limit):.0%}" if limit else "",
    ]


def stages_table(stages: dict[str, list]) -> str:
    """The share of each stage in a forward pass, by precision."""
    lines = [
        "| stage | times | " + " | ".join(f"{precision}, ms | share" for precision in stages) + " |",
        "|---|---|" + "---|---|" * len(stages),
    ]
    for same in zip(*stages.values(), strict=True):
        cells = []
        for stage, (whole, *_) in zip(same, stages.values(), strict=True):
            cells.append(spread((1000 * s for s in stage.seconds), 1))
            cells.append(f"{stage.count * np.median(stage.seconds) / np.median(whole.seconds):.0%}")
        first = same[0]
        lines.append(f"| {'of these: ' * first.inside}{first.name} | {first.count} | {' | '.join(cells)} |")
    return "\n".join(lines)
