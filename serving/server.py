"""A local server with TensorFlow Serving's gRPC interface, for machines without its binary.

python -m serving.server --model-dir models/spinet --port 8500

It serves the latest version in the folder by the services PredictionService (Predict, GetModelMetadata), ModelService
(GetModelStatus) and grpc.health.v1.Health; error codes are TensorFlow Serving's. It listens on this machine only unless
told otherwise, encrypts nothing and asks for no password.
"""

# Before TensorFlow, whose start-up messages it silences.
import spinet_tf  # noqa: F401

# isort: split
import argparse
import os
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.session import SavedModelSession
from serving.tensors import to_proto
from spinet_tf.errors import SpinetError, reports_errors

OPTIONS = (
    # A scene's tile is larger than gRPC's limit of 4 MiB, in both directions.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise a second server on the same port would start, and get every other request.
    ("grpc.so_reuseport", 0),
)
CODES = {code.value[0]: code for code in grpc.StatusCode}
GRACE = 5.0  # seconds that requests under way have to finish after a signal


class Servable:
    """The latest version of a model, under the name that clients ask for.

    Args:
        folder: holds a numbered folder per version, as `export.saved_model` writes it.
        name: the model's name.

    Raises:
        SpinetError: if the folder holds no version.
    """

    def __init__(self, folder: str | os.PathLike, name: str):
        folder = Path(folder)
        versions = [int(path.parent.name) for path in folder.glob("*/saved_model.pb") if path.parent.name.isdecimal()]
        if not versions:
            raise SpinetError(
                f"Expected a folder with numbered versions of a SavedModel, such as {folder / '1' / 'saved_model.pb'}. "
                f"There is none. Write one: python -m export.saved_model MODEL.keras {folder}"
            )
        self.name = name
        self.version = max(versions)
        self.session = SavedModelSession(folder / str(self.version))

    def admit(self, spec: model_pb2.ModelSpec) -> None:
        """Raise NotFoundError unless `spec` asks for this model and version, or names no version."""
        if spec.name != self.name or (spec.HasField("version") and spec.version.value != self.version):
            asked = f"version {spec.version.value} of {spec.name}" if spec.HasField("version") else spec.name
            raise tf.errors.NotFoundError(
                None, None, f"Servable not found: {asked!r}. There is: version {self.version} of {self.name!r}."
            )

    def describe(self, spec: model_pb2.ModelSpec, signature_name: str = "") -> None:
        """Fill in the model specification of an answer."""
        spec.name = self.name
        spec.version.value = self.version
        spec.signature_name = signature_name


class Services(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """The two services of TensorFlow Serving over one servable; methods have their names there."""

    def __init__(self, servable: Servable):
        self.servable = servable

    def Predict(self, request, context):  # noqa: N802
        return _answer(context, self._predict, request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _answer(context, self._get_model_metadata, request)

    def GetModelStatus(self, request, context):  # noqa: N802
        return _answer(context, self._get_model_status, request)

    def _predict(self, request):
        self.servable.admit(request.model_spec)
        inputs = {}
        for name, proto in request.inputs.items():
            try:
                inputs[name] = tf.make_ndarray(proto)
            except (TypeError, ValueError, KeyError) as error:
                raise tf.errors.InvalidArgumentError(None, None, f"Cannot read the tensor {name}: {error}") from error
        signature_name = request.model_spec.signature_name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        outputs = self.servable.session.run(inputs, signature_name, request.output_filter)
        response = predict_pb2.PredictResponse()
        self.servable.describe(response.model_spec, signature_name)
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(to_proto(value))
        return response

    def _get_model_metadata(self, request):
        self.servable.admit(request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise tf.errors.InvalidArgumentError(
                None, None, f"Expected metadata_field to be signature_def. Received: {list(request.metadata_field)}."
            )
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self.servable.session.signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self.servable.describe(response.model_spec)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def _get_model_status(self, request):
        self.servable.admit(request.model_spec)
        status = get_model_status_pb2.ModelVersionStatus(
            version=self.servable.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
        )
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])


def _answer(context: grpc.ServicerContext, method, request) -> Message:
    """Return what `method` answers, or abort with the gRPC code of its TensorFlow error: their numbers are the same."""
    try:
        return method(request)
    except tf.errors.OpError as error:
        context.abort(CODES[error.error_code], _reason(error.message))


def _reason(message: str) -> str:
    """Keep what a client can act on, without the names of graph nodes; gRPC limits headers to 8 KiB."""
    return message.removeprefix("Graph execution error:\n\n").split("\n\t [[")[0][:2000]


class Server:
    """Serves one model until stopped.

    Args:
        model_dir: the servable's folder.
        name: the model's name.
        host: the address to listen on.
        port: the port, 0 for any that is free.

    Attributes:
        address: "host:port", with the real port.
        servable: what is served.

    Raises:
        SpinetError: if there is no model, or the port cannot be had.

    Example:
        with Server("models/spinet", port=0) as server:
            Client(server.address).predict(images)
    """

    def __init__(self, model_dir: str | os.PathLike, name: str = "spinet", host: str = "127.0.0.1", port: int = 8500):
        self.servable = Servable(model_dir, name)
        # TensorFlow spreads one request over all cores; a second waiting one keeps them busy.
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=OPTIONS)
        services = Services(self.servable)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, self._server)
        self._health = health.HealthServicer()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            self.servable.session.close()
            raise SpinetError(f"Cannot listen on {host}:{port}. Choose another port, or 0 for any.") from error
        self.address = f"{host}:{bound}"
        self._server.start()

    def stop(self) -> None:
        """Refuse new requests, let those under way finish, and release the port."""
        self._health.enter_graceful_shutdown()
        self._server.stop(GRACE).wait()
        self.servable.session.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception) -> None:
        self.stop()


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.server",
        description="Serve a SavedModel over gRPC as TensorFlow Serving does, until Ctrl-C or SIGTERM.",
        epilog="examples:\n"
        "  python -m serving.server --model-dir models/spinet\n"
        "  python -m serving.server --model-dir models/spinet --port 0     # any free port; it is printed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model-dir", required=True, help="the folder with the numbered versions; the latest is served"
    )
    parser.add_argument("--name", default="spinet", help="the name that clients ask for (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="0 for any that is free (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, unencrypted (default: %(default)s)"
    )
    args = parser.parse_args(argv)

    stopped = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopped.set())
    with Server(args.model_dir, args.name, args.host, args.port) as server:
        print(f"serving {args.name} version {server.servable.version} on {server.address}", flush=True)
        stopped.wait()
    print("stopped", flush=True)


if __name__ == "__main__":
    sys.exit(main())
