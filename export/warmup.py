"""Requests that TensorFlow Serving answers by itself before a version counts as available.

The first request to a graph takes seconds, for the graph is optimised then: 3.3 s instead of 0.08 s with the paper's
network on two cores. After that, a request of a length or size not seen before takes at most 12 % longer than the next
like it. So every signature is asked, and the lengths and sizes are a few usual ones: with the paper's network they take
about 15 s; tiles of 128 pixels on top would take half a minute more and gain nothing that was measured.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from spinet_tf.errors import SpinetError

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
LENGTHS = (1, 5, 10, 20, 40)
SIZES = (32, 64)

# TensorFlow Serving refuses a version whose file holds more.
MOST_RECORDS = 1000

# A digital number of ordinary farmland; what the images hold makes no difference to the time.
DIGITAL_NUMBER = 1500


def write_warmup(
    directory: str | os.PathLike,
    bands: int,
    lengths: Sequence[int] = LENGTHS,
    sizes: Sequence[int] = SIZES,
    means: tuple[int, int] | None = None,
) -> int:
    """Write the warm-up requests of a SavedModel: every length with every size, and each other signature once.

    Tensors of one repeated value are written as that value and a shape, so that the file has a few kilobytes whatever
    the sizes. Equal arguments give equal bytes.

    Args:
        directory: the SavedModel, one version of a servable.
        bands: how many bands it takes.
        lengths: numbers of frames.
        sizes: sides of the tiles, in pixels of the images.
        means: how many blocks and features, where it has the signatures `means` and `with_means`.

    Returns:
        How many requests there are.

    Raises:
        SpinetError: for a length or size below 1, none at all, or more requests than TensorFlow Serving takes.

    Example:
        write_warmup("models/spinet/1", 12, lengths=[10, 20], sizes=[64])

    Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    for name, values in (("lengths", lengths), ("sizes", sizes)):
        if not values or min(values) < 1:
            raise SpinetError(f"Expected warm-up {name} of 1 or more. Received: {list(values)}.")
    # The largest first: the allocator then has what all the others need.
    shapes = sorted(itertools.product(set(lengths), set(sizes)), key=lambda shape: -shape[0] * shape[1] ** 2)
    requests = [_predict("serving_default", *shape, bands) for shape in shapes]
    length, size = shapes[-1]
    requests.append(_predict("uint8", length, size, bands))
    if means is not None:
        blocks, filters = means
        given = {
            "block_means": _repeated((1, blocks, filters), np.float32(0)),
            "frame_means": _repeated((1, length, filters), np.float32(0)),
        }
        requests.append(_predict("means", length, size, bands))
        requests.append(_predict("with_means", length, size, bands, **given))
    requests.append(_request("describe", request=_repeated((1,), np.int32(0))))
    if len(requests) > MOST_RECORDS:
        raise SpinetError(
            f"Expected at most {MOST_RECORDS} warm-up requests, TensorFlow Serving's limit. "
            f"Received: {len(requests)}. Give fewer lengths or sizes."
        )
    file = Path(directory) / FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request in requests:
            log = PredictionLog(predict_log=PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))
    return len(requests)


def _predict(signature_name: str, length: int, size: int, bands: int, **means: TensorProto) -> PredictRequest:
    images = _repeated((1, length, size, size, bands), np.uint16(DIGITAL_NUMBER))
    return _request(signature_name, images=images, num_frames=_repeated((1,), np.int32(length)), **means)


def _request(signature_name: str, **inputs: TensorProto) -> PredictRequest:
    # No name or version: TensorFlow Serving sends the request to the version that it is loading.
    request = PredictRequest(inputs=inputs)
    request.model_spec.signature_name = signature_name
    return request


def _repeated(shape: tuple[int, ...], value: np.number) -> TensorProto:
    """A tensor of one number: a TensorProto with fewer values than its shape has repeats the last."""
    values = {"float_val": [float(value)]} if value.dtype == np.float32 else {"int_val": [int(value)]}
    return TensorProto(
        dtype=tf.as_dtype(value.dtype).as_datatype_enum,
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape]),
        **values,
    )
