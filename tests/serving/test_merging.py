"""Batches are put together and taken apart as TensorFlow Serving does it, against NumPy's own padding."""

import numpy as np
import pytest
import tensorflow as tf

from serving.merging import merge, rows, split


def filled(tensor, shape):
    """`tensor` with its first element in all that `shape` has besides, but for the first axis."""
    widths = [(0, 0), *((0, size - own) for size, own in zip(shape, tensor.shape[1:], strict=True))]
    return np.pad(tensor, widths, constant_values=tensor.ravel()[0])


def test_tensors_of_one_shape_are_joined_in_order(rng):
    requests = [{"x": rng.random((count, 3)), "n": np.arange(count)} for count in (2, 1, 3)]
    merged = merge(requests, size=6, pad=False)
    np.testing.assert_array_equal(merged["x"], np.concatenate([request["x"] for request in requests]))
    np.testing.assert_array_equal(merged["n"], [0, 1, 0, 0, 1, 2])


def test_every_axis_but_the_first_is_padded_with_the_tensors_own_first_element(rng):
    shapes = [(1, 4, 6, 5, 2), (2, 3, 5, 7, 2), (1, 1, 1, 1, 2)]
    tensors = [rng.integers(1, 100, shape, np.uint16) for shape in shapes]
    merged = merge([{"x": tensor} for tensor in tensors], size=4, pad=True)["x"]
    assert merged.dtype == np.uint16
    np.testing.assert_array_equal(merged, np.concatenate([filled(tensor, (4, 6, 7, 2)) for tensor in tensors]))


@pytest.mark.parametrize("pad", [False, True])
def test_rows_that_are_missing_repeat_the_first_row_of_the_last_request(pad):
    merged = merge([{"x": np.array([[1.0], [2.0]])}, {"x": np.array([[3.0], [4.0]])}], size=6, pad=pad)["x"]
    np.testing.assert_array_equal(merged.ravel(), [1, 2, 3, 4, 3, 3])


def test_text_is_padded_too():
    merged = merge([{"x": np.array([[b"a", b"bc"]], object)}, {"x": np.array([[b"d"]], object)}], size=2, pad=True)
    assert merged["x"].tolist() == [[b"a", b"bc"], [b"d", b"d"]]


def test_a_request_that_fills_the_batch_is_not_copied(rng):
    tensor = rng.random((2, 3))
    assert merge([{"x": tensor}], size=2, pad=True)["x"] is tensor


def test_shapes_that_differ_are_refused_without_padding():
    requests = [{"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}]
    with pytest.raises(tf.errors.FailedPreconditionError, match="name 'x' from different tasks have different shapes"):
        merge(requests, size=2, pad=False)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 2), (1, 2, 3)], "Received for x: 2, 3"),
        ([(1, 1, 1, 1, 1, 1, 2), (1, 1, 1, 1, 1, 1, 3)], "rank from 1 to 6 can be padded"),
        ([(1, 0), (1, 2)], "Got empty tensor in batch of non-empty tensors"),
    ],
)
def test_what_cannot_be_padded_is_refused(shapes, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        merge([{"x": np.zeros(shape)} for shape in shapes], size=2, pad=True)


def test_rows_are_those_of_every_tensor():
    assert rows({"x": np.zeros((3, 2)), "n": np.zeros(3)}) == 3
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have at least one dimension"):
        rows({"x": np.float32(1)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have equal 0th-dimension size"):
        rows({"x": np.zeros(3), "n": np.zeros(2)})


def test_answers_are_split_along_the_first_axis_only(rng):
    outputs = {"y": rng.random((7, 5, 4)), "n": np.arange(7)}
    first, second = split(outputs, [2, 3], size=7)
    np.testing.assert_array_equal(first["y"], outputs["y"][:2])
    np.testing.assert_array_equal(second["y"], outputs["y"][2:5])
    np.testing.assert_array_equal(second["n"], [2, 3, 4])


@pytest.mark.parametrize(
    ("output", "message"), [(np.float32(1), "has 0 dimensions"), (np.zeros(3), "0th dimension does")]
)
def test_answers_without_the_batchs_rows_are_refused(output, message):
    with pytest.raises(tf.errors.FailedPreconditionError, match=message):
        split({"y": output}, [1, 1], size=2)
