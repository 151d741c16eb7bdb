"""The warm-up requests that a version brings along, answered before it counts as available.

Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.saved_model import DEFAULT_SERVING_SIGNATURE_DEF_KEY
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.session import SavedModelSession
from serving.status import failure
from serving.tensors import TENSOR_ERRORS, from_proto

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000


def warm_up(session: SavedModelSession, directory: Path, most_bytes: int) -> int:
    """Answer the requests in a version's folder, in their order.

    Args:
        session: the version, loaded.
        directory: its folder.
        most_bytes: what one tensor may take.

    Returns:
        How many there were, 0 without the file.

    Raises:
        tf.errors.OpError: if the file is damaged, holds something else or too much, or a request fails.
    """
    file = directory / FILE
    if not file.is_file():
        return 0
    count = 0
    for record in tf.data.TFRecordDataset(str(file)):
        count += 1
        if count > MOST_RECORDS:
            raise failure(
                tf.errors.InvalidArgumentError,
                f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}",
            )
        try:
            log = PredictionLog.FromString(record.numpy())
        except DecodeError as error:
            raise failure(tf.errors.InvalidArgumentError, f"Failed to parse warmup record from {file}") from error
        if log.WhichOneof("log_type") != "predict_log":
            raise failure(
                tf.errors.UnimplementedError,
                f"Expected warm-up requests of Predict in {file}. Received: {log.WhichOneof('log_type')}.",
            )
        request = log.predict_log.request
        try:
            inputs = {name: from_proto(proto, most_bytes) for name, proto in request.inputs.items()}
        except TENSOR_ERRORS as error:
            raise failure(tf.errors.InvalidArgumentError, f"tensor parsing error in {file}: {error}") from error
        signature_name = request.model_spec.signature_name or DEFAULT_SERVING_SIGNATURE_DEF_KEY
        session.run(inputs, signature_name, request.output_filter)
    return count
