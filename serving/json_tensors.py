"""Tensors as JSON, by the rules of TensorFlow Serving's REST interface.

Row format: "instances" is a list with one object of named inputs for each row, or with one value where the signature
has one input; "predictions" comes back. Columnar format: "inputs" is one object of named inputs with all rows, or one
value; "outputs" comes back. Binary text is {"b64": "..."}, and comes back so from outputs whose names end in _bytes.

uint16 has no JSON form there: a signature that takes it answers UNIMPLEMENTED, and has to be asked over gRPC.

References:
    https://www.tensorflow.org/tfx/serving/api_rest
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/util/json_tensor.cc
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.status import failure
from serving.tensors import to_proto

ROWS, COLUMNS = "instances", "inputs"
ANSWERS = {ROWS: "predictions", COLUMNS: "outputs"}

INT32, INT64, UINT32, UINT64 = (np.iinfo(kind) for kind in (np.int32, np.int64, np.uint32, np.uint64))
# The range in which a number must lie; what is then too large for an int8 wraps around, as there.
INTEGERS = {
    tf.int8: INT32,
    tf.uint8: INT32,
    tf.int16: INT32,
    tf.int32: INT32,
    tf.int64: INT64,
    tf.uint32: UINT32,
    tf.uint64: UINT64,
}
FLOATS = (tf.float32, tf.float64)

# How much of a value an error repeats.
LONGEST_VALUE = 200


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a request's body.

    Raises:
        tf.errors.InvalidArgumentError: if it is no JSON object.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise _invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names, or none.

    Raises:
        tf.errors.InvalidArgumentError: if it names it by something else than text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def fill_inputs(request: PredictRequest, document: Mapping[str, Any], signature: SignatureDef) -> str:
    """Fill a request's inputs from JSON.

    Args:
        request: gets the inputs.
        document: the body.
        signature: says what they have to be.

    Returns:
        The format, "instances" or "inputs".

    Raises:
        tf.errors.InvalidArgumentError: if the document does not fit the signature.
        tf.errors.UnimplementedError: for inputs of a type that has no JSON form.
    """
    if ROWS in document and COLUMNS in document:
        raise _invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' "
            "keys to exist"
        )
    dtypes = {name: tf.as_dtype(info.dtype) for name, info in signature.inputs.items()}
    if ROWS in document:
        values, form = _columns_of_rows(document[ROWS], dtypes), ROWS
    elif COLUMNS in document:
        values, form = _columns(document[COLUMNS], dtypes), COLUMNS
    else:
        raise _invalid(f"Missing '{COLUMNS}' or '{ROWS}' key")
    for name, value in values.items():
        request.inputs[name].CopyFrom(to_proto(_array(value, dtypes[name])))
    return form


def _columns(inputs: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, Any]:
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(dtypes) > 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {next(iter(dtypes)): inputs}
    for name in dtypes:
        if name not in inputs:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in dtypes}


def _columns_of_rows(instances: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, list]:
    if not isinstance(instances, list):
        raise _invalid(f"JSON Value: {_shown(instances)} Excepting '{ROWS}' to be an list/array")
    if not instances:
        raise _invalid(f"JSON Value: {_shown(instances)} No values in '{ROWS}' array")
    named = isinstance(instances[0], dict) and not _is_base64(instances[0])
    if not named and len(dtypes) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for index, instance in enumerate(instances):
        if named != (isinstance(instance, dict) and not _is_base64(instance)):
            expected = "object but got list" if named else "value/list but got object"
            raise _invalid(f"Expecting {expected} at item {index} of input list")
        if named and set(instance) != set(dtypes):
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {_shown(instance)} must only "
                f"have keys: {','.join(sorted(dtypes))}"
            )
    if not named:
        return {next(iter(dtypes)): instances}
    return {name: [instance[name] for instance in instances] for name in dtypes}


def _array(value: Any, dtype: tf.DType) -> np.ndarray:
    shape = _shape(value)
    convert = _converter(dtype)
    leaves: list[Any] = []
    _collect(value, shape, 0, convert, leaves)
    if dtype == tf.string:
        array = np.empty(len(leaves), object)
        array[:] = leaves
    elif dtype in INTEGERS:
        # First to a type that holds them all.
        array = np.array(leaves, np.uint64 if dtype == tf.uint64 else np.int64).astype(dtype.as_numpy_dtype)
    else:
        array = np.array(leaves, dtype.as_numpy_dtype)
    return array.reshape(shape)


def _shape(value: Any) -> list[int]:
    """The shape that a value has if it is regular: of the first elements at each level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _collect(value: Any, shape: list[int], level: int, convert: Callable[[Any], Any], leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise _invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        leaves.append(convert(value))
        return
    if level >= len(shape):
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _collect(element, shape, level + 1, convert, leaves)


def _converter(dtype: tf.DType) -> Callable[[Any], Any]:
    """A function from a value of JSON to one of `dtype`, which refuses what is of another type."""
    if dtype == tf.string:
        return _text
    if dtype in INTEGERS:
        bounds = INTEGERS[dtype]
        return lambda value: _checked(value, type(value) is int and bounds.min <= value <= bounds.max, dtype)
    if dtype in FLOATS:
        return lambda value: _number(value, dtype)
    if dtype == tf.bool:
        return lambda value: _checked(value, type(value) is bool, dtype)

    def refuse(value: Any) -> Any:
        raise failure(
            tf.errors.UnimplementedError, f"Conversion of JSON Value: {_shown(value)} to type: {_type_name(dtype)}"
        )

    return refuse


def _checked(value: Any, fits: bool, dtype: tf.DType) -> Any:
    if not fits:
        raise _invalid(
            f"JSON Value: {_shown(value)} Type: {_json_type(value)} is not of expected type: {_type_name(dtype)}"
        )
    return value


def _number(value: Any, dtype: tf.DType) -> float:
    _checked(value, type(value) in (int, float), dtype)
    limits = np.finfo(dtype.as_numpy_dtype)
    exact = 2 ** (limits.nmant + 1) - 1
    fits = (
        abs(value) <= exact if isinstance(value, int) else abs(value) <= float(limits.max) or not math.isfinite(value)
    )
    if not fits:
        raise _invalid(f"Cannot convert JSON value: {_shown(value)} to {_type_name(dtype)} without loss of precision.")
    return value


def _text(value: Any) -> bytes:
    if isinstance(value, dict):
        if not _is_base64(value):
            raise _invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid("Unable to base64 decode") from error
    return _checked(value, isinstance(value, str), tf.string).encode(errors="replace")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def answer(outputs: Mapping[str, np.ndarray], form: str) -> bytes:
    """Write outputs as JSON.

    Args:
        outputs: the outputs by name.
        form: of the request, "instances" or "inputs".

    Returns:
        The body.

    Raises:
        tf.errors.InvalidArgumentError: if the outputs have no rows, or unequal numbers of them, in row format.
    """
    values = {name: _values(name, array) for name, array in outputs.items()}
    answered: Any
    if form == ROWS:
        _check_rows(outputs)
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        answered = rows if len(values) > 1 else next(iter(values.values()))
    else:
        answered = values if len(values) > 1 else next(iter(values.values()))
    return json.dumps({ANSWERS[form]: answered}).encode()


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    for name, array in outputs.items():
        if array.ndim == 0:
            raise _invalid(f"Tensor name: {name} has no shape information")
        if not len(array):
            raise _invalid(f"Tensor name: {name} has invalid batch size: 0")
    sizes = {name: len(array) for name, array in outputs.items()}
    first = next(iter(sizes.values()))
    for name, size in sizes.items():
        if size != first:
            raise _invalid(f"Tensor name: {name} has inconsistent batch size: {size} expecting: {first}")


def _values(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        flat = [
            {"b64": base64.b64encode(value).decode()} if as_bytes else value.decode(errors="replace")
            for value in array.ravel()
        ]
    elif array.dtype == np.float32:
        flat = [_shortest(value) for value in array.ravel()]
    else:
        flat = array.ravel().tolist()
    return _nested(flat, array.shape)


def _nested(flat: list, shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    size = math.prod(shape[1:])
    return [_nested(flat[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


def _shortest(value: np.float32) -> float:
    """The float that prints like `value`: 0.2, where float(value) would print as 0.20000000298023224."""
    for digits in (6, 9):
        printed = float(f"{value:.{digits}g}")
        if np.float32(printed) == value:
            break
    return printed


def _invalid(message: str) -> tf.errors.OpError:
    return failure(tf.errors.InvalidArgumentError, message)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _json_type(value: Any) -> str:
    kinds = {bool: str(value), dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return kinds.get(type(value), "Null")


def _type_name(dtype: tf.DType) -> str:
    return {tf.float32: "float", tf.float64: "double", tf.float16: "half"}.get(dtype, dtype.name)
