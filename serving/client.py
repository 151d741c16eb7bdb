"""A client of TensorFlow Serving, or of the local server, with NumPy arrays on both sides.

It needs NumPy, gRPC and TensorFlow Serving's stubs (which import TensorFlow); neither Keras models nor this project's
other code.
"""

import functools

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.tensors import to_proto


class ServingError(ValueError):
    """The server cannot be reached, or refused the request; the message says what to do or what it said."""


class Client:
    """Asks a served SPInet for maps. It is an engine for `spinet_tf.inference.predict_scene` too.

    Args:
        address: "host:port".
        model: the name under which the server offers the model.
        timeout: seconds to wait for one answer.

    Example:
        with Client("127.0.0.1:8500") as client:
            probabilities = client.predict(images)
    """

    def __init__(self, address: str, model: str = "spinet", timeout: float = 300.0):
        self.address = address
        self.model = model
        self.timeout = timeout
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def predict(self, images: np.ndarray, num_frames: np.ndarray | None = None) -> np.ndarray:
        """Ask for the probability of cultivated land.

        Args:
            images: (batch, time, height, width, bands) uint16, digital numbers, in the order of `band_names`.
            num_frames: (batch,), how many frames of each sample are real, the first ones; all of them when None.

        Returns:
            float32 (batch, scale * height, scale * width, 1).

        Raises:
            ServingError: if the server cannot be reached or refuses the request.
        """
        if images.dtype != np.uint16 or images.ndim != 5:
            raise ServingError(
                "Expected images as uint16 digital numbers of shape (batch, time, height, width, bands). "
                f"Received: {images.dtype} of shape {images.shape}."
            )
        if num_frames is None:
            num_frames = np.full(len(images), images.shape[1])
        return self._run({"images": images, "num_frames": np.asarray(num_frames, np.int32)})["probabilities"]

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """The bands the model takes, in order; None where it does not name them."""
        return tuple(name.decode() for name in self._description["bands"][0]) or None

    @property
    def scale(self) -> int:
        """How many times finer the answer is than the images."""
        return int(self._description["scale"][0])

    @functools.cached_property
    def _description(self) -> dict[str, np.ndarray]:
        return self._run({"request": np.zeros(1, np.int32)}, "describe")

    def _run(self, inputs: dict[str, np.ndarray], signature_name: str = "serving_default") -> dict[str, np.ndarray]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature_name
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_proto(value))
        try:
            response = self._stub.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise ServingError(self._explain(error)) from error
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def _explain(self, error: grpc.RpcError) -> str:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return (
                f"No server answers at {self.address}. Start one with "
                "`python -m serving.server --model-dir DIR`, or give the address of another."
            )
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"The server at {self.address} gave no answer within {self.timeout:g} s. Send smaller tiles."
        return f"The server at {self.address} refused the request ({error.code().name}): {error.details()}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception) -> None:
        self.close()
