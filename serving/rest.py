"""The REST interface and the metrics: HTTP with JSON, as TensorFlow Serving has it.

POST /v1/models/NAME[/versions/N|/labels/L]:predict
GET  /v1/models/NAME[/versions/N|/labels/L]             the states of its versions
GET  /v1/models/NAME[/versions/N|/labels/L]/metadata    its signatures
GET  /monitoring/prometheus/metrics                     where the monitoring configuration enables it

As there, it is never encrypted.

Reference: https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import grpc
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving import json_tensors
from serving.metrics import Metrics
from serving.predictor import SIGNATURE_DEF, Predictor
from serving.security import HEADER, REFUSAL, Token
from serving.status import code, failure, http_code, reason
from serving.tensors import from_proto
from spinet_tf.errors import SpinetError

MODEL = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PREDICT = re.compile(MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
MODEL_STATUS = re.compile(MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)

JSON = "application/json"
TEXT = "text/plain"

# Seconds for which a connection may be silent.
PATIENCE = 30.0

logger = logging.getLogger(__name__)


class RestApi:
    """Answers HTTP requests by a predictor, whatever reads and writes them.

    Args:
        predictor: answers.
        metrics: counts, and is shown.
        metrics_path: where the metrics are; None for nowhere.
        timeout: seconds that a prediction may take; None for as long as it takes.
    """

    def __init__(self, predictor: Predictor, metrics: Metrics, metrics_path: str | None, timeout: float | None):
        self._predictor = predictor
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._timeout = timeout

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Answer one request.

        Args:
            method: GET or POST.
            path: of the address.
            body: what was sent.

        Returns:
            The status, the type of the content, and the content.
        """
        if method == "GET" and path == self._metrics_path:
            return 200, TEXT, self._metrics.text()
        if not path.lower().startswith("/v1/"):
            return 404, TEXT, b"Not found"
        started = time.monotonic()
        error = None
        match = (PREDICT if method == "POST" else MODEL_STATUS).fullmatch(path)
        try:
            if match is None:
                raise failure(tf.errors.InvalidArgumentError, f"Malformed request: {method} {path}")
            answered = self._predict(match, body) if method == "POST" else self._describe(match)
        except tf.errors.OpError as raised:
            error = raised
        # Whatever it is: the client is told, and the server goes on.
        except Exception as raised:
            logger.exception("%s %s failed", method, path)
            error = failure(tf.errors.InternalError, f"{type(raised).__name__}: {raised}")
        self._count(method, match, error, time.monotonic() - started)
        if error is not None:
            return http_code(error), JSON, json.dumps({"error": reason(error)}).encode()
        return 200, JSON, answered

    def _count(self, method: str, match: re.Match | None, error: tf.errors.OpError | None, seconds: float) -> None:
        name = unquote(match["name"] or "") if match else ""
        known = name if name in self._predictor.models.names() else ""
        status = grpc.StatusCode.OK if error is None else code(error)
        self._metrics.observe_request(known, "predict" if method == "POST" else "", "REST", status, seconds)

    def _predict(self, match: re.Match, body: bytes) -> bytes:
        if match["method"].lower() != "predict":
            raise failure(tf.errors.UnimplementedError, f"Expected :predict. Received: :{match['method']}.")
        document = json_tensors.parse_object(body)
        request = PredictRequest(model_spec=_spec(match))
        request.model_spec.signature_name = json_tensors.signature_name(document)
        signature = self._predictor.signature(request.model_spec, request.model_spec.signature_name)
        form = json_tensors.fill_inputs(request, document, signature)
        response = self._predictor.predict(request, self._timeout)
        # The predictor has made them: there is nothing to fear.
        outputs = {name: from_proto(proto, most_bytes=2**63) for name, proto in response.outputs.items()}
        return json_tensors.answer(outputs, form)

    def _describe(self, match: re.Match) -> bytes:
        if not match["name"]:
            raise failure(tf.errors.InvalidArgumentError, "Missing model name in request.")
        if not match["metadata"]:
            return _json(self._predictor.get_model_status(GetModelStatusRequest(model_spec=_spec(match))))
        request = GetModelMetadataRequest(model_spec=_spec(match), metadata_field=[SIGNATURE_DEF])
        response = self._predictor.get_model_metadata(request)
        signatures = SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        metadata = {SIGNATURE_DEF: _dict(signatures)}
        return json.dumps({"model_spec": _dict(response.model_spec), "metadata": metadata}, indent=1).encode()


def _spec(match: re.Match) -> ModelSpec:
    spec = ModelSpec(name=unquote(match["name"] or ""))
    if match["version"]:
        if int(match["version"]) >= 2**63:
            raise failure(tf.errors.InvalidArgumentError, f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(match["version"])
    if match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _dict(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _json(message: Message) -> bytes:
    return json.dumps(_dict(message), indent=1).encode()


class RestServer:
    """Listens for HTTP requests until closed.

    Args:
        api: answers them.
        host: the address to listen on.
        port: the port, 0 for any that is free.
        token: what clients have to show; None for nothing.
        threads: connections served at once; others wait.
        most_bytes: what a request's body may have.

    Attributes:
        address: "host:port", with the real port.

    Raises:
        SpinetError: if the port cannot be had.
    """

    def __init__(self, api: RestApi, host: str, port: int, token: Token | None, threads: int, most_bytes: int):
        handler = type("Handler", (_Handler,), {"api": api, "token": token, "most_bytes": most_bytes})
        try:
            self._server = _PoolServer((host, port), handler, threads)
        except OSError as error:
            raise SpinetError(
                f"Cannot listen on {host}:{port} ({error}). Choose another port, or 0 for any."
            ) from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Refuse new requests, and let those under way finish."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _PoolServer(ThreadingHTTPServer):
    """An HTTP server with a fixed number of threads."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], threads: int):
        # First: a port that cannot be had closes the server.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._pool.submit(self.process_request_thread, request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("A connection from %s was lost", client_address, exc_info=True)

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown()


class _Handler(BaseHTTPRequestHandler):
    """Reads and writes HTTP, one request for each connection."""

    api: RestApi
    token: Token | None
    most_bytes: int

    protocol_version = "HTTP/1.1"
    server_version = "spinet"
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        # Idle connections would keep threads.
        self.close_connection = True
        if self.token is not None and not self.token.allows(self.headers.get(HEADER)):
            self._send(401, JSON, json.dumps({"error": REFUSAL}).encode())
            return
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()) or "Transfer-Encoding" in self.headers:
            self._send(411, JSON, json.dumps({"error": "Expected the header Content-Length."}).encode())
        elif int(length) > self.most_bytes:
            error = f"Received message larger than max ({length} vs. {self.most_bytes})"
            self._send(413, JSON, json.dumps({"error": error}).encode())
        else:
            self._send(*self.api.answer(self.command, self.path.split("?")[0], self.rfile.read(int(length))))

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
