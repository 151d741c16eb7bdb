"""A server that speaks the protocol by the official classes, answers in NumPy, and fails on request."""

import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.inference.scenes import MeanEngine

BANDS = ("B02", "B04", "B08")
SCALE = 2
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
)
State = get_model_status_pb2.ModelVersionStatus


class FakeServer(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """One model, "spinet", version 7.

    Attributes:
        failures: (code, details) with which the next requests fail.
        requests: those that came, failed ones too.
        metadata: of those requests.
        most: the greatest number of requests that were answered at once.
        hold: requests wait for it before they are answered.
        states: of each version, one list per question; the last one stays.
        version: the one that says it answers.
    """

    def __init__(self, port=0, credentials=None, options=()):
        self.engine = MeanEngine(BANDS, SCALE)
        self.failures = []
        self.requests = []
        self.metadata = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        self.hold = threading.Event()
        self.hold.set()
        self.states = [[State(version=7, state=State.AVAILABLE)]]
        self.version = 7
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=(*OPTIONS, *options))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{port}"
        self.port = port
        self._server.start()

    def stop(self):
        self.hold.set()
        self._server.stop(None).wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def Predict(self, request, context):  # noqa: N802
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            self._admit(request, context)
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            response.model_spec.version.value = self.version
            for name, value in self._answer(request.model_spec.signature_name, inputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response
        finally:
            with self._lock:
                self._now -= 1

    def GetModelMetadata(self, request, context):  # noqa: N802
        self._admit(request, context)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        signature.inputs["images"].dtype = tf.uint16.as_datatype_enum
        signature.inputs["images"].tensor_shape.CopyFrom(tf.TensorShape([None] * 4 + [3]).as_proto())
        signature.outputs["probabilities"].dtype = tf.float32.as_datatype_enum
        signature.outputs["probabilities"].tensor_shape.CopyFrom(tf.TensorShape(None).as_proto())
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        self._admit(request, context)
        states = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=states)

    def _admit(self, request, context):
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            failure = self.failures.pop(0) if self.failures else None
        if failure:
            context.abort(*failure)
        self.hold.wait(30)

    def _answer(self, signature, inputs):
        if signature == "describe":
            return {"bands": np.array([BANDS], object), "scale": np.full(1, SCALE, np.int32)}
        probabilities = self.engine.predict(inputs["images"], inputs["num_frames"])
        if signature == "uint8":
            probabilities = np.rint(254 * probabilities).astype(np.uint8)
        return {"probabilities": probabilities}
