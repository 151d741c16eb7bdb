"""What a network costs: multiply-accumulates counted in its graph, time and memory of a step measured."""

import math
import resource
import sys
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from training.checkpoint import set_weights_of, weights_of

_STEPS = 3


class StepCost(NamedTuple):
    """What a training step takes.

    Attributes:
        seconds: its median time, once the graph is built.
        peak_bytes: the most memory that the process, or on a GPU the device, has held.
    """

    seconds: float
    peak_bytes: int


def count_macs(model: keras.Model, batch: int, frames: int, size: int) -> int:
    """Count the multiply-accumulates of convolutions and matrix products in a forward pass.

    Args:
        model: with the inputs of `SPInet`.
        batch: patches.
        frames: frames of each, all real.
        size: height and width, in pixels of the images.

    Returns:
        The number. On JAX it is half of the floating-point operations that the compiler counts, which has the smaller
        operations in it too.

    Example:
        count_macs(SPInet(), 1, 20, 32)  # 22 thousand million, of which 19.26 are the backbone
    """
    bands = _bands(model)
    if keras.backend.backend() == "jax":
        return _count_by_compiler(model, (batch, frames, size, size, bands))
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def forward(images):
        return model({"images": images, "frame_mask": tf.ones((batch, frames), tf.bool)}, training=False)

    traced = tf.function(forward).get_concrete_function(tf.TensorSpec((batch, frames, size, size, bands)))
    # Constants have shapes, where variables' reads may not.
    operations = convert_variables_to_constants_v2(traced).graph.get_operations()
    return sum(_count(operation) for operation in operations)


def _count(operation) -> int:
    kind = operation.type
    if kind in ("Conv2D", "Conv3D"):
        return operation.outputs[0].shape.num_elements() * math.prod(operation.inputs[1].shape[:-1])
    if kind == "DepthwiseConv2dNative":
        return operation.outputs[0].shape.num_elements() * math.prod(operation.inputs[1].shape[:2])
    if kind == "Conv2DBackpropInput":
        # A transposed convolution: each input meets the kernel once.
        return operation.inputs[2].shape.num_elements() * math.prod(operation.inputs[1].shape[:-1])
    if kind == "MatMul" or kind.startswith("BatchMatMul"):
        transposed = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
        return operation.outputs[0].shape.num_elements() * operation.inputs[0].shape[-2 if transposed else -1]
    return 0


def _count_by_compiler(model: keras.Model, shape: tuple[int, ...]) -> int:
    import jax

    def forward(images, mask):
        return model({"images": images, "frame_mask": mask}, training=False)

    arguments = (jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct(shape[:2], "bool"))
    counted: Any = jax.jit(forward).lower(*arguments).compile().cost_analysis()
    return int(counted["flops"]) // 2


def _bands(model: keras.Model) -> int:
    return next(tensor for tensor in model.inputs if tensor.name == "images").shape[-1]


def measure_step(model: keras.Model, batch: int, frames: int, size: int, scale: int) -> StepCost:
    """Train a few steps on random data, and leave the model as it was.

    Args:
        model: compiled, its optimizer built.
        batch: patches in a step.
        frames: frames of each.
        size: height and width, in pixels of the images.
        scale: how many times finer labels are.

    Returns:
        Time and memory.
    """
    rng = np.random.default_rng(0)
    fine = (batch, scale * size, scale * size, 1)
    images = rng.uniform(0, 0.5, (batch, frames, size, size, _bands(model))).astype("float32")
    inputs = {"images": images, "frame_mask": np.ones((batch, frames), bool)}
    label, weight = rng.integers(0, 2, fine).astype("float32"), np.ones(fine, "float32")
    before = weights_of(model)
    seconds = []
    # The first step builds the graph.
    for _ in range(1 + _STEPS):
        start = time.perf_counter()
        model.train_on_batch(inputs, label, weight)
        seconds.append(time.perf_counter() - start)
    set_weights_of(model, before)
    model.reset_metrics()
    return StepCost(float(np.median(seconds[1:])), _peak_bytes())


def has_gpu() -> bool:
    """Whether the network would run on a GPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _peak_bytes() -> int:
    if keras.backend.backend() == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            return statistics["peak_bytes_in_use"]
    elif has_gpu():
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    # Kilobytes, but bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
