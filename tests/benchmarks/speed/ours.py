"""SPInet of this package, through Keras on TensorFlow or JAX. Variants: "folded", for inference, and "remat"."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import spinet_tf  # isort: skip  (before anything imports TensorFlow: it keeps its log quiet)

import keras
import numpy as np

from spinet_tf.models import rematerialize
from spinet_tf.models.folded import folded
from tests.benchmarks.speed.calls import compiled
from tests.benchmarks.speed.spec import BANDS, Spec

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
LEARNING_RATE = 1e-4
TOLERANCE = 1e-4


def build(spec: Spec) -> keras.Model:
    """The network, untrained."""
    model = spinet_tf.SPInet(**spec.network, dtype=POLICIES[spec.precision])
    if spec.variant == "remat":
        rematerialize(model)
    return folded(model) if spec.variant == "folded" else model


def prepare(spec: Spec) -> Callable[[], object]:
    """The forward pass, or a step of training as `model.fit` takes it."""
    model = build(spec)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.5, spec.images_shape).astype("float32")
    inputs = {"images": images, "frame_mask": np.ones(images.shape[:2], bool)}
    if spec.task == "forward":
        return forward(model, inputs)
    labels = rng.integers(0, 2, spec.labels_shape).astype("float32")
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    # As `training.network` does, so that the step is traced once.
    model.optimizer.build(model.trainable_variables)
    return lambda: model.train_on_batch(inputs, labels)


def forward(model: keras.Model, inputs: dict[str, np.ndarray]) -> Callable[[], object]:
    """A call of the model for inference."""
    if keras.backend.backend() != "jax":
        return compiled(lambda inputs: model(inputs, training=False), inputs)
    # As arguments: JAX would bake captured weights into the program.
    weights = [[w.value for w in ws] for ws in (model.trainable_variables, model.non_trainable_variables)]
    return compiled(lambda weights, inputs: model.stateless_call(*weights, inputs, training=False)[0], weights, inputs)


def peak_bytes() -> int:
    """The most memory that the GPU has held."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def reference(spec: Spec) -> dict[str, int]:
    """Write weights, and what the network answers with them, into the folder of `spec`.

    Returns:
        The multiply-accumulates of a forward pass of `spec`, by variant.

    Raises:
        ValueError: if the folded form, in a graph as it is timed in, has other answers.
    """
    from training.cost import count_macs

    model = build(spec)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            # Biases and statistics start where an error would not show.
            weight.assign(np.asarray(keras.ops.convert_to_numpy(weight)) + rng.uniform(0, 0.2, weight.shape))
    # Before the call in training below, which moves statistics.
    fast = folded(model)
    macs = {
        name: count_macs(variant, spec.batch, spec.frames, spec.size)
        for name, variant in (("", model), ("folded", fast))
    }
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    # Sizes that neither 2 nor 8 divides.
    images = rng.normal(size=(2, 5, 9, 7, BANDS)).astype("float32")
    inputs: dict[str, Any] = {"images": images, "frame_mask": np.ones(images.shape[:2], bool)}
    answers = {
        name: keras.ops.convert_to_numpy(model(inputs, training=training))
        for name, training in (("forward", False), ("step", True))
    }
    distance = np.abs(keras.ops.convert_to_numpy(forward(fast, inputs)()) - answers["forward"]).max()
    if not distance <= TOLERANCE * answers["forward"].std():
        raise ValueError(f"The folded form is {distance / answers['forward'].std():.1e} standard deviations off")
    folder = Path(spec.folder)
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "answers.npz", images=images, **answers)
    return macs


def export(spec: Spec) -> float:
    """Write the network as an ONNX file into the folder of `spec`; return how far its answers are off."""
    from export.onnx import export_onnx

    return export_onnx(build(spec), Path(spec.folder) / "spinet.onnx")
