"""Arrays as TensorProto."""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto


def to_proto(array: np.ndarray) -> TensorProto:
    """Return `array` as a TensorProto of raw bytes: a thousand times faster for uint16 than tf.make_tensor_proto.

    Args:
        array: of any shape, numbers or strings.

    Returns:
        The message, which `tf.make_ndarray` and TensorFlow Serving read.

    Example:
        request.inputs["images"].CopyFrom(to_proto(images))
    """
    if array.dtype == object:
        # Strings have no fixed width.
        return tf.make_tensor_proto(array)
    return TensorProto(
        dtype=tf.as_dtype(array.dtype).as_datatype_enum,
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape]),
        tensor_content=array.tobytes(),
    )
