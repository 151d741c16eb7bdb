"""Arrays survive the way to TensorFlow and back."""

import numpy as np
import pytest
import tensorflow as tf
from spinet_client import ServingError
from spinet_client.messages import message_class
from spinet_client.tensors import dtype_name, fill_tensor, read_tensor
from tensorflow.core.framework.tensor_pb2 import TensorProto

INTEGERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
DTYPES = ["float16", "float32", "float64", *INTEGERS, "bool"]


def sent(array):
    """What TensorFlow reads of what the client sends."""
    proto = message_class("tensorflow.TensorProto")()
    fill_tensor(proto, array)
    return TensorProto.FromString(proto.SerializeToString())


def received(proto):
    """What the client reads of what TensorFlow sends."""
    return read_tensor(message_class("tensorflow.TensorProto").FromString(proto.SerializeToString()))


def values(dtype, shape=(2, 3)):
    if dtype == "bool":
        return np.random.default_rng(0).random(shape) < 0.5
    if np.dtype(dtype).kind == "f":
        return np.random.default_rng(0).normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(limits.min, limits.max, shape, dtype, endpoint=True)
    array.ravel()[:2] = limits.min, limits.max
    return array


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensorflow_reads_what_is_sent(dtype):
    proto = sent(values(dtype))
    assert proto.tensor_content
    assert_same(tf.make_ndarray(proto), values(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_raw_and_listed_values_are_read(dtype):
    expected = values(dtype)
    raw = TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum, tensor_content=expected.tobytes())
    raw.tensor_shape.CopyFrom(tf.TensorShape(expected.shape).as_proto())
    assert_same(received(raw), expected)
    # What TensorFlow's C++ code writes, and the server with it by default.
    listed = TensorProto.FromString(tf.io.serialize_tensor(expected).numpy())
    field = {"float16": "half_val", "float32": "float_val", "float64": "double_val", "bool": "bool_val"}.get(dtype)
    listed.ClearField("tensor_content")
    listed_values = expected.view(np.uint16) if dtype == "float16" else expected
    if field is None:
        field = f"{dtype}_val" if dtype in ("int64", "uint32", "uint64") else "int_val"
    getattr(listed, field)[:] = listed_values.ravel().tolist()
    assert_same(received(listed), expected)
    assert_same(tf.make_ndarray(listed), expected)


def test_strings_pass_both_ways():
    expected = np.array([[b"B01", b""], [b"\xff\x00", b"B02"]], object)
    assert_same(received(tf.make_tensor_proto(expected)), expected)
    assert_same(tf.make_ndarray(sent(expected)), expected)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 2, 3, 4, 5)])
def test_shapes_pass_both_ways(shape):
    expected = np.ones(shape, np.uint16)
    assert_same(tf.make_ndarray(sent(expected)), expected)
    assert_same(received(sent(expected)), expected)


def test_the_order_in_memory_changes_nothing():
    array = values("uint16", (4, 6, 2))
    for view in (array[::2, ::-1], array.T, array.astype(">u2")):
        np.testing.assert_array_equal(tf.make_ndarray(sent(view)), view)


def test_equal_values_that_tensorflow_leaves_out_are_filled_in():
    proto = tf.make_tensor_proto(np.float32(0.25), shape=(2, 3))
    assert len(proto.float_val) == 1
    assert_same(received(proto), np.full((2, 3), 0.25, np.float32))
    del proto.float_val[:]
    assert_same(received(proto), np.zeros((2, 3), np.float32))
    proto.float_val[:] = [1, 2]
    assert_same(received(proto), tf.make_ndarray(proto))


def test_what_is_read_may_be_changed():
    for proto in (sent(values("float32")), tf.make_tensor_proto(values("float32"))):
        received(proto)[0, 0] = 5


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (TensorProto(dtype="DT_BFLOAT16"), "type 14 of shape ()"),
        (TensorProto(), "type 0"),
        (TensorProto(dtype="DT_FLOAT", tensor_shape={"unknown_rank": True}), "type 1"),
        (TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": -1}]}), "shape (-1,)"),
        (
            TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"abc"),
            "Received: 3 bytes",
        ),
        (TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": 1}]}, float_val=[1, 2]), "Received: 2."),
    ],
)
def test_tensors_that_cannot_be_read_are_refused(proto, message):
    with pytest.raises(ServingError) as raised:
        received(proto)
    assert message in str(raised.value)


def test_arrays_of_other_types_are_refused():
    with pytest.raises(ServingError, match="Received: complex64"):
        sent(np.ones(2, np.complex64))


def test_types_have_numpys_names():
    assert [dtype_name(tf.as_dtype(name).as_datatype_enum) for name in DTYPES] == DTYPES
    assert (dtype_name(7), dtype_name(14)) == ("string", "type 14")
