"""What the server answers, whichever way it is asked: Predict, GetModelMetadata, GetModelStatus, new configurations."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.saved_model import DEFAULT_SERVING_SIGNATURE_DEF_KEY
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from serving.models import Models
from serving.status import failure
from serving.tensors import TENSOR_ERRORS, from_proto, to_proto

SIGNATURE_DEF = "signature_def"


class Predictor:
    """Answers requests, as many at once as it is allowed to.

    Args:
        models: what is served.
        most_requests: Predict requests in hand at once, waiting ones included. Any more are refused.
        most_bytes: what one tensor of a request may take.
    """

    def __init__(self, models: Models, most_requests: int, most_bytes: int):
        self.models = models
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._slots = threading.BoundedSemaphore(most_requests)

    def predict(
        self,
        request: PredictRequest,
        timeout: float | None = None,
        watch: Callable[[Future], None] = lambda future: None,
    ) -> PredictResponse:
        """Answer a Predict request.

        Args:
            request: the request.
            timeout: seconds that the client waits; None for as long as it takes.
            watch: gets the future of the answer, to cancel it when the client has gone.

        Returns:
            The response.

        Raises:
            tf.errors.OpError: with TensorFlow Serving's codes and messages.
        """
        if not request.HasField("model_spec"):
            raise failure(tf.errors.InvalidArgumentError, "Missing ModelSpec")
        deadline = None if timeout is None else time.monotonic() + timeout
        signature_name = request.model_spec.signature_name or DEFAULT_SERVING_SIGNATURE_DEF_KEY
        with ExitStack() as stack:
            self._admit()
            stack.callback(self._slots.release)
            version = self.models.acquire(request.model_spec)
            stack.callback(version.release)
            inputs = self._arrays(request.inputs)
            future = version.submit(inputs, signature_name, request.output_filter, deadline)
            held = stack.pop_all()
        # Only now may the version be unloaded and another request come in; a client that waits no longer is no reason.
        future.add_done_callback(lambda _: held.close())
        watch(future)
        outputs = _wait(future, timeout)
        response = PredictResponse(outputs={name: to_proto(np.asarray(value)) for name, value in outputs.items()})
        _describe(response.model_spec, version.name, version.number, signature_name)
        return response

    def _admit(self) -> None:
        if not self._slots.acquire(blocking=False):
            raise failure(
                tf.errors.ResourceExhaustedError,
                f"Server Threadpool Exhausted: {self._most_requests} requests are in hand, as many as the server takes "
                "at once. Try again.",
            )

    def _arrays(self, protos: Mapping[str, TensorProto]) -> dict[str, np.ndarray]:
        arrays = {}
        for name, proto in protos.items():
            try:
                arrays[name] = from_proto(proto, self._most_bytes)
            except TENSOR_ERRORS as error:
                raise failure(tf.errors.InvalidArgumentError, f"tensor parsing error: {name}: {error}") from error
        return arrays

    def signature(self, spec: ModelSpec, signature_name: str) -> SignatureDef:
        """The signature that a REST request is read by.

        Raises:
            tf.errors.OpError: if the model is not available or has no such signature.
        """
        version = self.models.acquire(spec)
        try:
            signatures = version.session.signatures
        finally:
            version.release()
        name = signature_name or DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if name not in signatures:
            raise failure(
                tf.errors.InvalidArgumentError, f'Serving signature name: "{name}" not found in signature def'
            )
        return signatures[name]

    def get_model_metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """Answer with the signatures of a version, the only metadata there is.

        Raises:
            tf.errors.OpError: with TensorFlow Serving's codes and messages.
        """
        if not request.HasField("model_spec"):
            raise failure(tf.errors.InvalidArgumentError, "Missing ModelSpec")
        if not request.metadata_field:
            raise failure(
                tf.errors.InvalidArgumentError, "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise failure(tf.errors.InvalidArgumentError, f"Metadata field {field} is not supported")
        version = self.models.acquire(request.model_spec)
        try:
            signatures = SignatureDefMap(signature_def=version.session.signatures)
        finally:
            version.release()
        response = GetModelMetadataResponse()
        _describe(response.model_spec, version.name, version.number)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def get_model_status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """Answer with the states of a model's versions.

        Raises:
            tf.errors.OpError: with TensorFlow Serving's codes and messages.
        """
        if not request.HasField("model_spec"):
            raise failure(tf.errors.InvalidArgumentError, "Missing ModelSpec")
        return GetModelStatusResponse(model_version_status=self.models.status(request.model_spec))

    def reload_config(self, request: ReloadConfigRequest) -> ReloadConfigResponse:
        """Serve other models.

        Raises:
            tf.errors.OpError: as `Models.configure` raises it.
        """
        self.models.configure(request.config)
        response = ReloadConfigResponse()
        response.status.error_code = 0
        return response


def _wait(future: Future, timeout: float | None) -> Mapping[str, np.ndarray]:
    try:
        return future.result(timeout)
    except TimeoutError:
        # It is dropped unless it runs already.
        future.cancel()
        raise failure(tf.errors.DeadlineExceededError, "The deadline passed before the answer") from None
    except CancelledError:
        raise failure(tf.errors.CancelledError, "The client has cancelled the request") from None


def _describe(spec: ModelSpec, name: str, number: int, signature_name: str = "") -> None:
    spec.name = name
    spec.version.value = number
    spec.signature_name = signature_name
