"""Requests put together into one batch, and its answers taken apart, exactly as TensorFlow Serving does it.

Tensors of one name are joined along their first axis. Where their other axes differ, the batch fails as a whole, unless
`pad` is set: then every tensor grows to the greatest size of each axis, filled with its own first element. Answers are
split along their first axis and nowhere else, so what padding has added to another axis stays in them: a request of
smaller height and width gets an answer as large as its neighbours'. That a series of fewer frames gets the answer it
gets alone is the model's doing, by num_frames, which has one axis and is never padded.

Reference: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/batching/batching_session.cc
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from serving.status import failure

Tensors = Mapping[str, np.ndarray]

MOST_PADDED_DIMENSIONS = 6


def rows(inputs: Tensors) -> int:
    """How many rows of a batch a request takes: the size of the first axis, the same in all its tensors.

    Raises:
        tf.errors.InvalidArgumentError: if a tensor has no axis, or the sizes differ.
    """
    sizes = set()
    for tensor in inputs.values():
        if tensor.ndim == 0:
            raise failure(
                tf.errors.InvalidArgumentError, "Batching Run() input tensors must have at least one dimension"
            )
        sizes.add(len(tensor))
    if len(sizes) != 1:
        raise failure(tf.errors.InvalidArgumentError, "Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def merge(requests: Sequence[Tensors], size: int, pad: bool) -> dict[str, np.ndarray]:
    """Join requests of one signature into one batch.

    Args:
        requests: the tensors of each, by name; of the same names, and as many `rows` in all tensors of one request.
        size: rows of the batch. Those that the requests do not fill repeat the first row of the last request.
        pad: whether tensors of different shapes are padded.

    Returns:
        The tensors of the batch. Those of a single request that fills the batch are the request's own.

    Raises:
        tf.errors.FailedPreconditionError: if shapes differ and `pad` is false.
        tf.errors.InvalidArgumentError: if tensors differ in the number of their axes, or cannot be padded.

    Example:
        merge([{"x": np.ones((1, 2))}, {"x": np.ones((1, 3))}], size=2, pad=True)["x"].shape  # (2, 3)
    """
    return {name: _join(name, [request[name] for request in requests], size, pad) for name in requests[0]}


def _join(name: str, tensors: list[np.ndarray], size: int, pad: bool) -> np.ndarray:
    shapes = {tensor.shape[1:] for tensor in tensors}
    if len(shapes) > 1:
        _check_shapes(name, tensors, pad)
    (first, *others) = tensors
    if not others and len(first) == size:
        return first
    # One copy: every tensor is written to where it belongs.
    joined = np.empty((size, *np.max([tensor.shape[1:] for tensor in tensors], axis=0).astype(int)), first.dtype)
    start = 0
    for tensor in tensors:
        part = joined[start : start + len(tensor)]
        if part.shape != tensor.shape:
            part[...] = tensor.flat[0]
        part[tuple(slice(axis) for axis in tensor.shape)] = tensor
        start += len(tensor)
    if start < size:
        joined[start:] = joined[start - len(tensors[-1])]
    return joined


def _check_shapes(name: str, tensors: list[np.ndarray], pad: bool) -> None:
    if not pad:
        raise failure(
            tf.errors.FailedPreconditionError,
            f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
            "dimensions starting with the first dim.",
        )
    if len({tensor.ndim for tensor in tensors}) > 1 or tensors[0].ndim > MOST_PADDED_DIMENSIONS:
        raise failure(
            tf.errors.InvalidArgumentError,
            f"Only tensors with rank from 1 to {MOST_PADDED_DIMENSIONS} can be padded, and only to others of their "
            f"rank. Received for {name}: {', '.join(sorted({str(tensor.ndim) for tensor in tensors}))}.",
        )
    if any(tensor.size == 0 for tensor in tensors):
        raise failure(tf.errors.InvalidArgumentError, "Got empty tensor in batch of non-empty tensors.")


def split(outputs: Tensors, sizes: Sequence[int], size: int) -> list[dict[str, np.ndarray]]:
    """Give every request its rows of a batch's answer.

    Args:
        outputs: the answer.
        sizes: rows of each request.
        size: rows of the batch.

    Returns:
        The outputs of each request, views of the batch's.

    Raises:
        tf.errors.FailedPreconditionError: if an output has not as many rows as the batch.
    """
    for name, output in outputs.items():
        if output.ndim == 0:
            raise failure(tf.errors.FailedPreconditionError, f"Batched output tensor {name} has 0 dimensions")
        if len(output) != size:
            raise failure(
                tf.errors.FailedPreconditionError,
                f"Batched output tensor {name}'s 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )
    stops = np.cumsum(sizes)
    return [
        {name: output[stop - count : stop] for name, output in outputs.items()}
        for count, stop in zip(sizes, stops, strict=True)
    ]
