"""What the machine can do at most, through the backend: matrix products, convolutions, copies."""

import spinet_tf  # noqa: F401  # isort: skip  (before anything imports TensorFlow: it keeps its log quiet)

import numpy as np
from keras import ops

from tests.benchmarks.speed.calls import compiled
from tests.benchmarks.speed.processes import WARM_UP, timed
from tests.benchmarks.speed.spec import PRECISIONS, Spec

# A backbone's convolution, and a matrix that is large beside the caches but takes no minutes.
FEATURES, SIDE = 48, 2048
COPIED_BYTES = 2**28


def measure(spec: Spec, rounds: int) -> dict[str, list[float]]:
    """Samples in GFLOP/s, and of the copy, which reads and writes, in GB/s."""
    return {name: _samples(run, work, rounds) for name, (run, work) in _cases(spec).items()}


def _cases(spec: Spec):
    frames = spec.batch * spec.frames
    work = {
        "matrix product": (ops.matmul, [(SIDE, SIDE), (SIDE, SIDE)], 2 * SIDE**3),
        "convolution": (
            lambda x, kernel: ops.conv(x, kernel, padding="same"),
            [(frames, spec.size, spec.size, FEATURES), (3, 3, FEATURES, FEATURES)],
            2 * frames * spec.size**2 * 9 * FEATURES**2,
        ),
    }
    rng = np.random.default_rng(0)
    cases = {}
    for precision in PRECISIONS:
        for name, (function, shapes, operations) in work.items():
            arguments = [ops.cast(rng.normal(size=shape).astype("float32"), precision) for shape in shapes]
            cases[f"{name} {precision}"] = compiled(function, *arguments), operations
    cases["copy"] = compiled(lambda x: x + 1, np.zeros(COPIED_BYTES // 4, "float32")), 2 * COPIED_BYTES
    return cases


def _samples(run, work: int, rounds: int) -> list[float]:
    timed(run, WARM_UP)
    return [work / seconds / 1e9 for seconds in timed(run, rounds)]
