"""ONNX Runtime and OpenVINO on the exported network. Variants: "onnxruntime", "openvino"."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.speed.spec import Spec


def prepare(spec: Spec) -> Callable[[], object]:
    """The forward pass, from digital numbers to probabilities."""
    path = str(Path(spec.folder) / "spinet.onnx")
    inputs = {
        "images": np.random.default_rng(0).integers(1, 5000, spec.images_shape, np.uint16),
        "num_frames": np.full(spec.batch, spec.frames, np.int32),
    }
    threads = int(os.environ["OMP_NUM_THREADS"])
    return {"onnxruntime": _onnxruntime, "openvino": _openvino}[spec.variant](path, inputs, threads, spec.precision)


def _onnxruntime(path: str, inputs: dict, threads: int, precision: str) -> Callable[[], object]:
    import onnxruntime

    if precision != "float32":
        raise ValueError(f"ONNX Runtime has no {precision} for this network on a CPU")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def _openvino(path: str, inputs: dict, threads: int, precision: str) -> Callable[[], object]:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(path, "CPU", settings)
    request = model.create_infer_request()
    return lambda: request.infer(inputs)
