"""A local server with TensorFlow Serving's interfaces, for machines without its binary.

python -m serving.server --model_base_path models/spinet --port 8500

It speaks gRPC (PredictionService, ModelService, health, reflection) and, where asked to, HTTP with JSON and metrics for
Prometheus. Flags, configuration files, batching, error codes and messages are TensorFlow Serving's. It listens on this
machine only unless told otherwise.
"""

# Before TensorFlow, whose start-up messages it silences.
import spinet_tf  # noqa: F401

# isort: split
import argparse
import logging
import os
import signal
import sys
import threading
from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.config import read_text_message, single_model
from serving.metrics import Metrics
from serving.models import Models
from serving.options import Options, add_flags, models_of, options_of
from serving.predictor import Predictor
from serving.rest import RestApi, RestServer
from serving.scheduling import Scheduler
from serving.security import TokenInterceptor, credentials
from serving.services import Services
from serving.status import reason
from serving.version import Host
from spinet_tf.errors import SpinetError, reports_errors

# Seconds that requests under way have to finish after a signal; Kubernetes waits for 30 before it kills.
GRACE = 25.0

# Threads for what is not Predict, and for refusing what is too much of it.
SPARE_THREADS = 8

EPILOG = """examples:
  python -m serving.server --model_base_path models/spinet
  python -m serving.server --model_base_path models/spinet --port 0 --rest_api_port 8501
  python -m serving.server --model_config_file models.config --allow_version_labels_for_unavailable_models
  python -m serving.server --model_base_path models/spinet --enable_batching --batching_parameters_file batching.config
"""

logger = logging.getLogger(__name__)


class Server:
    """Serves models until stopped.

    Args:
        models: the folder with the numbered versions of a model, or a configuration of several.
        name: the model's name, where `models` is a folder.
        **options: as in `Options`.

    Attributes:
        address: "host:port" of gRPC, with the real port.
        rest_address: "host:port" of HTTP; None where there is none.
        models: what is served.
        metrics: what was counted.

    Raises:
        SpinetError: if a model cannot be served, or a port cannot be had.

    Example:
        with Server("models/spinet", port=0) as server:
            channel = grpc.insecure_channel(server.address)
    """

    def __init__(self, models: str | os.PathLike | ModelServerConfig, name: str = "spinet", **options):
        self.options = Options(**options)
        self.metrics = Metrics()
        self._scheduler = Scheduler(self.options.threads)
        host = Host(self._scheduler, self.options.batching, self.metrics, self.options.most_bytes, self.options.warmup)
        self.models = Models(host, self.options.labels_of_unavailable)
        self.rest_address: str | None = None
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None
        try:
            self.configure(models if isinstance(models, ModelServerConfig) else single_model(name, models))
            self._listen()
        except BaseException:
            self.stop(grace=0.0)
            raise
        if self.options.poll > 0:
            self.models.watch(self.options.poll)

    def configure(self, config: ModelServerConfig) -> None:
        """Serve the models of `config`.

        Raises:
            SpinetError: if it is wrong, or a new model cannot be served.
        """
        try:
            self.models.configure(config)
        except tf.errors.OpError as error:
            raise SpinetError(_advice(error)) from error

    def _listen(self) -> None:
        options = self.options
        predictor = Predictor(self.models, options.grpc_max_threads, options.most_bytes)
        threads = options.grpc_max_threads + SPARE_THREADS
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            interceptors=[TokenInterceptor(options.token)] if options.token else [],
            options=list(options.channel.items()),
            # Beyond, gRPC answers RESOURCE_EXHAUSTED by itself, and requests do not pile up.
            maximum_concurrent_rpcs=threads,
        )
        self._services = Services(predictor, self.metrics)
        self._services.add_to(self._grpc)
        wanted = f"{options.host}:{options.port}"
        try:
            if options.ssl is None:
                port = self._grpc.add_insecure_port(wanted)
            else:
                port = self._grpc.add_secure_port(wanted, credentials(options.ssl))
        except RuntimeError as error:
            raise SpinetError(f"Cannot listen on {wanted}. Choose another port, or 0 for any.") from error
        self.address = f"{options.host}:{port}"
        if options.rest_api_port is not None:
            api = RestApi(predictor, self.metrics, options.metrics_path, options.rest_api_timeout)
            self._rest = RestServer(
                api,
                options.host,
                options.rest_api_port,
                options.token,
                options.rest_api_num_threads,
                options.most_bytes,
            )
            self.rest_address = self._rest.address
        self._grpc.start()

    def stop(self, grace: float = GRACE) -> None:
        """Refuse new requests, let those under way finish, and release the ports.

        Args:
            grace: seconds that they have.
        """
        if self._grpc is not None:
            self._services.health.enter_graceful_shutdown()
            self._grpc.stop(grace).wait()
        if self._rest is not None:
            self._rest.close()
        self.models.close()
        self._scheduler.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *exception) -> None:
        self.stop()


def _advice(error: tf.errors.OpError) -> str:
    if isinstance(error, tf.errors.FailedPreconditionError):
        return f"{reason(error)}. Pass --allow_version_labels_for_unavailable_models."
    if isinstance(error, tf.errors.UnknownError):
        return (
            f"{reason(error)}. Expected a folder with numbered versions of a SavedModel, such as DIR/1/saved_model.pb. "
            "Write one: python -m export.saved_model MODEL.keras DIR"
        )
    return reason(error)


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command with `argv`, by default the program's own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.server",
        description="Serve SavedModels as TensorFlow Serving does, until Ctrl-C or SIGTERM.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    args = parser.parse_args(argv)
    options = options_of(args)
    stopped = threading.Event()

    def stop(*_) -> None:
        stopped.set()
        # A second signal does not wait.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Versions that come, fail and go.
    logging.getLogger("serving").setLevel(logging.INFO)
    with Server(models_of(args), **vars(options)) as server:
        _announce(server)
        polled = args.model_config_file and args.model_config_file_poll_wait_seconds > 0
        while not stopped.wait(args.model_config_file_poll_wait_seconds if polled else None):
            _reload(server, args.model_config_file)
    print("stopped", flush=True)


def _announce(server: Server) -> None:
    served = ", ".join(
        f"{name} version {' '.join(map(str, server.models.available(name)))}" for name in server.models.names()
    )
    if server.rest_address is not None:
        print(f"HTTP on {server.rest_address}", flush=True)
    print(f"serving {served} on {server.address}", flush=True)


def _reload(server: Server, path: str) -> None:
    """Serve what the configuration file says by now; if it is wrong, go on as before."""
    try:
        server.configure(read_text_message(path, ModelServerConfig()))
    except SpinetError as error:
        logger.error("%s: %s", path, error)


if __name__ == "__main__":
    sys.exit(main())
