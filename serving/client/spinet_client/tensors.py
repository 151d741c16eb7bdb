"""NumPy arrays as TensorProto and back."""

import math

import numpy as np
from google.protobuf.message import Message

from spinet_client.errors import ServingError
from spinet_client.messages import message_class

_DataType = message_class("tensorflow.TensorProto").DESCRIPTOR.fields_by_name["dtype"].enum_type
# For each type: the array's dtype, the dtype and the field in which its values are listed.
_TYPES = {
    "DT_FLOAT": ("<f4", "<f4", "float_val"),
    "DT_DOUBLE": ("<f8", "<f8", "double_val"),
    "DT_HALF": ("<f2", "<u2", "half_val"),
    "DT_INT8": ("<i1", "<i1", "int_val"),
    "DT_INT16": ("<i2", "<i2", "int_val"),
    "DT_INT32": ("<i4", "<i4", "int_val"),
    "DT_INT64": ("<i8", "<i8", "int64_val"),
    "DT_UINT8": ("<u1", "<u1", "int_val"),
    "DT_UINT16": ("<u2", "<u2", "int_val"),
    "DT_UINT32": ("<u4", "<u4", "uint32_val"),
    "DT_UINT64": ("<u8", "<u8", "uint64_val"),
    "DT_BOOL": ("?", "?", "bool_val"),
    "DT_STRING": ("O", "O", "string_val"),
}
_NUMBERS = {np.dtype(types[0]): _DataType.values_by_name[name].number for name, types in _TYPES.items()}


def fill_tensor(proto: Message, array: np.ndarray) -> None:
    """Write an array into an empty TensorProto, as raw bytes wherever its values have a fixed width.

    Args:
        proto: the message, in its place in a request, so that it need not be copied there.
        array: of any shape; numbers, truth values, or bytes with the dtype object.

    Raises:
        ServingError: for another dtype.

    Example:
        fill_tensor(request.inputs["images"], images)
    """
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NUMBERS:
        raise ServingError(f"Expected an array of numbers, truth values or bytes. Received: {array.dtype}.")
    proto.dtype = _NUMBERS[dtype]
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.astype(dtype, copy=False).tobytes()


def read_tensor(proto: Message) -> np.ndarray:
    """Read a TensorProto, whether its values are raw bytes or listed one by one.

    Args:
        proto: the message. A list shorter than the shape stands for its last value repeated, as TensorFlow writes it.

    Returns:
        A writable array; strings are bytes with the dtype object.

    Raises:
        ServingError: if the message's type is unknown here, or its values do not fit its shape.

    Example:
        read_tensor(response.outputs["probabilities"])
    """
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    name = _type_name(proto.dtype)
    if name not in _TYPES or min(shape, default=0) < 0 or proto.tensor_shape.unknown_rank:
        raise ServingError(f"Expected a tensor of numbers or strings. Received: type {proto.dtype} of shape {shape}.")
    dtype, listed, field = _TYPES[name]
    count = math.prod(shape)
    if proto.tensor_content and dtype != "O":
        if len(proto.tensor_content) != count * np.dtype(dtype).itemsize:
            raise ServingError(
                f"Expected {count} values of {name} for the shape {shape}. Received: {len(proto.tensor_content)} bytes."
            )
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape).copy()
    values = np.array(getattr(proto, field), listed)
    if len(values) > count:
        raise ServingError(f"Expected {count} values of {name} for the shape {shape}. Received: {len(values)}.")
    if len(values) < count:
        # TensorFlow leaves out values that equal the last one, and all of them where they are zero.
        last = values[-1:] if len(values) else np.zeros(1, listed)
        values = np.concatenate([values, last.repeat(count - len(values))])
    return values.view(dtype).reshape(shape)


def dtype_name(number: int) -> str:
    """How NumPy names a TensorFlow data type, given by its number; "string", and "type 14" for one unknown here."""
    name = _type_name(number)
    if name == "DT_STRING":
        return "string"
    return np.dtype(_TYPES[name][0]).name if name in _TYPES else f"type {number}"


def _type_name(number: int) -> str | None:
    value = _DataType.values_by_number.get(number)
    return None if value is None else value.name
