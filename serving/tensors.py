"""Arrays as TensorProto, and back, with as few copies as can be."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto

# What `from_proto` raises for a message that is no tensor: of no type, of a wrong length, of values out of range.
TENSOR_ERRORS = (TypeError, ValueError, KeyError, OverflowError, MemoryError)


def to_proto(array: np.ndarray) -> TensorProto:
    """Return `array` as a TensorProto of raw bytes: a thousand times faster for uint16 than tf.make_tensor_proto.

    Args:
        array: of any shape, numbers or strings.

    Returns:
        The message, which `tf.make_ndarray` and TensorFlow Serving read.

    Example:
        request.inputs["images"].CopyFrom(to_proto(images))
    """
    if array.dtype.kind in "OSU":
        # Strings have no fixed width in the message.
        return tf.make_tensor_proto(array)
    return TensorProto(
        dtype=tf.as_dtype(array.dtype).as_datatype_enum,
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape]),
        tensor_content=array.tobytes(),
    )


def from_proto(proto: TensorProto, most_bytes: int) -> np.ndarray:
    """Return the array that a client sent, without a copy where it sent raw bytes.

    Args:
        proto: raw bytes, or values in a list, of which the last stands for all that are missing.
        most_bytes: what the array may take. A message of a few bytes can stand for one that no memory holds.

    Returns:
        The array, read-only where it shares the message's bytes.

    Raises:
        TypeError, ValueError, KeyError, OverflowError, MemoryError: if the message is no tensor. See `TENSOR_ERRORS`.

    Example:
        images = from_proto(request.inputs["images"], most_bytes=2**28)
    """
    dtype = np.dtype(tf.as_dtype(proto.dtype).as_numpy_dtype)
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise ValueError(f"expected a known shape, received {sizes}")
    if math.prod(sizes) * dtype.itemsize > most_bytes:
        raise ValueError(f"expected at most {most_bytes} bytes, received the shape {sizes} of {dtype}")
    if proto.tensor_content and dtype.kind != "O":
        return np.frombuffer(proto.tensor_content, dtype).reshape(sizes)
    return tf.make_ndarray(proto)
