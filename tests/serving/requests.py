"""Requests by the official messages, and what they are refused with."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2

from serving.tensors import to_proto


def predict_request(name="spinet", signature="", version=None, label=None, outputs=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(to_proto(value))
    return request


def toy_request(x=0.0, **spec):
    return predict_request(**{"name": "toy", **spec}, x=np.float32([[x]]))


def offset(stub, **spec):
    """What a toy adds: which version answers."""
    return tf.make_ndarray(stub.Predict(toy_request(**spec), timeout=30).outputs["y"]).item()


def metadata_request(name="spinet", fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def states(channel, name="toy", version=None):
    """The states of a model's versions, the order kept: {2: "AVAILABLE", 1: "END"}; none of a model not known."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    try:
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return {}
        raise
    return {status.version: status.State.Name(status.state) for status in response.model_version_status}


def refusal(call, request, **kwargs):
    with pytest.raises(grpc.RpcError) as raised:
        call(request, **{"timeout": 30, **kwargs})
    return raised.value.code().name, raised.value.details()


def images(batch=1, time=3, size=6, bands=12, seed=5):
    height, width = (size, size) if isinstance(size, int) else size
    return np.random.default_rng(seed).integers(1, 10000, (batch, time, height, width, bands), np.uint16)
