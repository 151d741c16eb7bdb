"""Which part of the network takes how much of a forward pass: each timed alone, at the size it has there."""

from typing import NamedTuple

import spinet_tf  # noqa: F401  # isort: skip  (before anything imports TensorFlow: it keeps its log quiet)

import numpy as np
from keras import ops

from spinet_tf.layers.frames import leaky_relu, per_frame
from tests.benchmarks.speed import ours
from tests.benchmarks.speed.calls import compiled
from tests.benchmarks.speed.processes import WARM_UP, timed
from tests.benchmarks.speed.spec import SCALE, Spec


class Stage(NamedTuple):
    """A part of the network.

    Attributes:
        name: what it is.
        count: how often a forward pass has it.
        inside: whether it is a part of the stages before it.
        seconds: what one takes, of every call; the whole pass counts as a stage too.
    """

    name: str
    count: int
    inside: bool
    seconds: list[float]


def measure(spec: Spec, rounds: int) -> list[Stage]:
    """The whole forward pass first, then its stages, taking turns."""
    runs = _runs(spec)
    for _, _, _, run in runs:
        timed(run, WARM_UP)
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for (*_, run), samples in zip(runs, seconds, strict=True):
            samples += timed(run, 1)
    return [Stage(*run[:3], samples) for run, samples in zip(runs, seconds, strict=True)]


def _runs(spec: Spec):
    model = ours.build(spec)
    layer = model.get_layer
    unit, blocks = layer("mid"), spec.network["tefa_blocks"]
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.5, spec.images_shape).astype("float32")
    batch, frames, size, _, _ = images.shape
    mask = np.ones((batch, frames), bool)

    def features(*shape):
        values = rng.normal(size=(*shape, spec.network["filters"])).astype("float32")
        return ops.cast(values, spec.precision)

    coarse, fine = features(batch, frames, size, size), features(batch, SCALE * size, SCALE * size)

    def stem(images, mask):
        return layer("head")(layer("normalization")(images, mask=mask), mask=mask)

    def normalize(x, mask):
        return unit.norm_out(leaky_relu(unit.norm_in(x, mask=mask)), mask=mask)

    def upsample(x, mask):
        return layer("pixel_shuffle")(layer("upsampling")(layer("temporal_mean")(x, mask=mask)))

    units = 2 * blocks + 2
    return [
        ("all of it", 1, False, ours.forward(model, {"images": images, "frame_mask": mask})),
        ("stem: normalisation and head unit", 1, False, compiled(stem, images, mask)),
        ("TEFA blocks", blocks, False, compiled(lambda x, mask: layer("tefa_1")(x, mask=mask), coarse, mask)),
        ("mid unit", 1, False, compiled(lambda x, mask: unit(x, mask=mask), coarse, mask)),
        ("TERN", 1, False, compiled(lambda x, mask: layer("tern")(x, mask=mask), coarse, mask)),
        ("temporal mean and upsampling", 1, False, compiled(upsample, coarse, mask)),
        ("fusion", 1, False, compiled(lambda x: layer("fusion")(x), fine)),
        ("units' convolutions", units, True, compiled(lambda x: per_frame(unit.convolution, x), coarse)),
        ("units' attention and residual", units, True, compiled(lambda x, m: x + unit.attention(x, m), coarse, mask)),
        ("units' BN and activation", units, True, compiled(normalize, coarse, mask)),
    ]
