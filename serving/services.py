"""The gRPC services: TensorFlow Serving's two, health and reflection."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.metrics import Metrics
from serving.predictor import Predictor
from serving.status import code, failure, reason

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

# Seconds from which on a deadline is none: gRPC gives 292 years where the client has set none.
FOREVER = 1e8

logger = logging.getLogger(__name__)


class Services:
    """TensorFlow Serving's services over a predictor.

    Args:
        predictor: answers.
        metrics: counts.

    Attributes:
        health: the health service. As in TensorFlow Serving it says SERVING from the start; whether a model is ready is
            for GetModelStatus to say.
    """

    def __init__(self, predictor: Predictor, metrics: Metrics):
        self._predictor = predictor
        self._metrics = metrics
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)

    def add_to(self, server: grpc.Server) -> None:
        """Let `server` offer them."""
        predictor = self._predictor
        services = {
            PREDICTION_SERVICE: {
                "Predict": self._handler(PredictRequest, self._predict, "Predict"),
                "GetModelMetadata": self._handler(GetModelMetadataRequest, _alone(predictor.get_model_metadata)),
            },
            MODEL_SERVICE: {
                "GetModelStatus": self._handler(GetModelStatusRequest, _alone(predictor.get_model_status)),
                "HandleReloadConfigRequest": self._handler(ReloadConfigRequest, _alone(predictor.reload_config)),
            },
        }
        for name, methods in services.items():
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods)])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)

    def _predict(self, request: PredictRequest, context: grpc.ServicerContext) -> Message:
        def watch(future: Future) -> None:
            # Called when the request is over, be it that the client has gone.
            if not context.add_callback(future.cancel):
                future.cancel()

        remaining = context.time_remaining()
        timeout = remaining if remaining is not None and remaining < FOREVER else None
        return self._predictor.predict(request, timeout, watch)

    def _handler(self, request_class: Any, method: Callable[..., Message], api: str = "") -> grpc.RpcMethodHandler:
        """A method that never fails but by a status.

        Args:
            request_class: what it takes.
            method: answers a request with its context.
            api: its name in the metrics, where TensorFlow Serving has one only for Predict.
        """

        def parse(data: bytes) -> Message | DecodeError:
            try:
                return request_class.FromString(data)
            # Raised here, gRPC would say no more than that something went wrong.
            except DecodeError as error:
                return error

        def answer(request: Message | DecodeError, context: grpc.ServicerContext) -> Message:
            started = time.monotonic()
            error = None
            try:
                if isinstance(request, DecodeError):
                    name = request_class.DESCRIPTOR.name
                    raise failure(tf.errors.InternalError, f"Failed to parse {name}: {request}")
                return method(request, context)
            except tf.errors.OpError as raised:
                error = raised
            # Whatever it is: the client is told, and the server goes on.
            except Exception as raised:
                logger.exception("%s failed", request_class.DESCRIPTOR.name)
                error = failure(tf.errors.InternalError, f"{type(raised).__name__}: {raised}")
            finally:
                status = grpc.StatusCode.OK if error is None else code(error)
                seconds = time.monotonic() - started
                self._metrics.observe_request(self._model_name(request), api, "GRPC", status, seconds)
            context.abort(status, reason(error))

        return grpc.unary_unary_rpc_method_handler(answer, parse, lambda response: response.SerializeToString())

    def _model_name(self, request: Any) -> str:
        """The model asked for, if there is one: names that clients make up would fill the memory."""
        spec = getattr(request, "model_spec", None)
        return spec.name if spec is not None and spec.name in self._predictor.models.names() else ""


def _alone(method: Callable[[Any], Message]) -> Callable[[Any, grpc.ServicerContext], Message]:
    return lambda request, context: method(request)
