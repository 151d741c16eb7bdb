"""How a server is set up, in a program and on the command line."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.batching import Batching
from serving.config import (
    CORES,
    BatchingParameters,
    MonitoringConfig,
    SSLConfig,
    batch_threads_of,
    batching_of,
    metrics_path_of,
    read_text_message,
    single_model,
)
from serving.security import Token
from spinet_tf.errors import SpinetError

RECEIVE_LIMIT = "grpc.max_receive_message_length"
CHANNEL_ARGUMENTS = {
    # Four tiles of 256 x 256 pixels and 40 frames. Without a limit one message could fill the memory.
    RECEIVE_LIMIT: 2**28,
    "grpc.max_send_message_length": -1,
    # Otherwise a second server on the same port would start, and get every other request.
    "grpc.so_reuseport": 0,
}

# TensorFlow spreads one request over all cores; a second one keeps them busy while the first begins or ends.
SESSIONS = 2


@dataclass(frozen=True)
class Options:
    """Everything about a server but the models.

    Attributes:
        host: the address to listen on.
        port: of gRPC, 0 for any that is free.
        rest_api_port: of HTTP, 0 for any that is free, None for no HTTP.
        metrics_path: where the metrics are; None for nowhere.
        rest_api_num_threads: HTTP requests at once.
        rest_api_timeout: seconds that a prediction asked for over HTTP may take.
        grpc_max_threads: Predict requests in hand at once, waiting ones included; any more get RESOURCE_EXHAUSTED.
        max_concurrent_sessions: requests that run at once without batching; the others wait.
        batching: how requests are put together; None for each alone.
        num_batch_threads: batches that run at once.
        channel_arguments: of gRPC, besides or instead of `CHANNEL_ARGUMENTS`.
        ssl: certificates; None for no encryption.
        token: what clients have to show; None for nothing.
        poll: seconds between looks at the models' folders; 0 for no more than the first.
        labels_of_unavailable: whether a label may be given to a version that is not available (yet).
        warmup: whether the warm-up requests that versions bring along are answered.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int | None = None
    metrics_path: str | None = None
    rest_api_num_threads: int = 4 * CORES
    rest_api_timeout: float = 30.0
    grpc_max_threads: int = 4 * CORES
    max_concurrent_sessions: int = SESSIONS
    batching: Batching | None = None
    num_batch_threads: int = CORES
    channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    ssl: Message | None = None
    token: Token | None = None
    poll: float = 1.0
    labels_of_unavailable: bool = False
    warmup: bool = True

    def __post_init__(self):
        for name in ("rest_api_num_threads", "grpc_max_threads", "max_concurrent_sessions", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise SpinetError(f"Expected {name} of 1 or more. Received: {getattr(self, name)}.")
        for port in (self.port, self.rest_api_port or 0):
            # gRPC would take another one: what is left of the number in 16 bits.
            if not 0 <= port < 2**16:
                raise SpinetError(f"Expected a port from 0 to 65535. Received: {port}.")
        if self.metrics_path is not None and self.rest_api_port is None:
            raise SpinetError("The metrics are on the port of HTTP. Give one by --rest_api_port.")

    @property
    def threads(self) -> int:
        """Requests or batches that run at once."""
        return self.max_concurrent_sessions if self.batching is None else self.num_batch_threads

    @property
    def channel(self) -> dict[str, int | str]:
        """All arguments of gRPC's channels."""
        return {**CHANNEL_ARGUMENTS, **self.channel_arguments}

    @property
    def most_bytes(self) -> int:
        """What one request may have."""
        limit = self.channel[RECEIVE_LIMIT]
        return int(limit) if int(limit) >= 0 else 2**31 - 1


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags. Those that tensorflow_model_server has too are spelled as there.

    They mean the same, but for the ports: 0 is any that is free, where it means none there.
    """
    models = parser.add_argument_group("models")
    models.add_argument("--model_base_path", metavar="DIR", help="the folder with the numbered versions")
    models.add_argument(
        "--model_name", default="spinet", metavar="NAME", help="what clients ask for (default: %(default)s)"
    )
    models.add_argument(
        "--model_config_file", metavar="FILE", help="a ModelServerConfig: models, version policies, labels"
    )
    _number(models, "--model_config_file_poll_wait_seconds", 0.0, "read it again this often; 0: once")
    _number(models, "--file_system_poll_wait_seconds", 1.0, "look for versions this often; 0: once")
    _boolean(models, "--enable_model_warmup", True, "answer the warm-up requests that a version brings along")
    _boolean(
        models, "--allow_version_labels_for_unavailable_models", False, "also at the start, when none is available yet"
    )

    network = parser.add_argument_group("network")
    network.add_argument(
        "--host", default=Options.host, help="0.0.0.0 lets other machines in (default: %(default)s, this one only)"
    )
    _number(network, "--port", Options.port, "of gRPC; 0: any that is free, it is printed")
    network.add_argument(
        "--rest_api_port", type=int, metavar="N", help="of HTTP; 0: any that is free (default: no HTTP)"
    )
    _number(network, "--rest_api_num_threads", Options.rest_api_num_threads, "HTTP requests at once")
    _number(network, "--rest_api_timeout_in_ms", int(Options.rest_api_timeout * 1000), "for a prediction over HTTP")
    network.add_argument(
        "--grpc_channel_arguments",
        default="",
        metavar="KEY=VALUE,...",
        help=f"such as {RECEIVE_LIMIT}=67108864, the greatest request (default: {CHANNEL_ARGUMENTS[RECEIVE_LIMIT]})",
    )
    network.add_argument("--ssl_config_file", metavar="FILE", help="an SSLConfig: certificates for gRPC")
    network.add_argument("--token_file", metavar="FILE", help="its first line is the token that clients have to show")
    network.add_argument(
        "--monitoring_config_file", metavar="FILE", help="a MonitoringConfig: metrics for Prometheus, over HTTP"
    )

    load = parser.add_argument_group("load")
    _number(load, "--grpc_max_threads", Options.grpc_max_threads, "requests in hand; more get RESOURCE_EXHAUSTED")
    _number(load, "--max_concurrent_sessions", SESSIONS, "requests that run at once, without batching")
    _boolean(load, "--enable_batching", False, "put requests together into batches")
    load.add_argument("--batching_parameters_file", metavar="FILE", help="a BatchingParameters: how")


def _number(group: argparse._ArgumentGroup, flag: str, default: float, meaning: str) -> None:
    group.add_argument(flag, type=type(default), default=default, metavar="N", help=f"{meaning} (default: {default:g})")


def _boolean(group: argparse._ArgumentGroup, flag: str, default: bool, meaning: str) -> None:
    # TensorFlow's flags take both forms: --flag and --flag=false.
    group.add_argument(
        flag,
        type=_truth,
        nargs="?",
        const=True,
        default=default,
        metavar="true|false",
        help=f"{meaning} (default: {str(default).lower()})",
    )


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")
    return text.lower() in ("true", "1")


def options_of(args: argparse.Namespace) -> Options:
    """The options that parsed flags stand for.

    Raises:
        SpinetError: if a file cannot be read, or flags contradict each other.
    """
    given: dict[str, Any] = {
        "metrics_path": None,
        "channel_arguments": _channel_arguments(args.grpc_channel_arguments),
        "rest_api_timeout": args.rest_api_timeout_in_ms / 1000,
        "poll": args.file_system_poll_wait_seconds,
        "labels_of_unavailable": args.allow_version_labels_for_unavailable_models,
        "warmup": args.enable_model_warmup,
    }
    if args.batching_parameters_file and not args.enable_batching:
        raise SpinetError("--batching_parameters_file is set without --enable_batching.")
    if args.enable_batching:
        parameters = BatchingParameters()
        if args.batching_parameters_file:
            read_text_message(args.batching_parameters_file, parameters)
        given |= {"batching": batching_of(parameters), "num_batch_threads": batch_threads_of(parameters)}
    if args.monitoring_config_file:
        given["metrics_path"] = metrics_path_of(read_text_message(args.monitoring_config_file, MonitoringConfig()))
    if args.ssl_config_file:
        given["ssl"] = read_text_message(args.ssl_config_file, SSLConfig())
    if args.token_file:
        given["token"] = Token(args.token_file)
    for name in ("host", "port", "rest_api_port", "rest_api_num_threads", "grpc_max_threads"):
        given[name] = getattr(args, name)
    return Options(**given, max_concurrent_sessions=args.max_concurrent_sessions)


def _channel_arguments(text: str) -> dict[str, int | str]:
    arguments: dict[str, int | str] = {}
    for argument in filter(None, text.split(",")):
        key, separator, value = argument.partition("=")
        if not separator:
            raise SpinetError(f"Expected --grpc_channel_arguments as KEY=VALUE,KEY=VALUE. Received: {text}.")
        arguments[key] = int(value) if value.removeprefix("-").isdecimal() else value
    return arguments


def models_of(args: argparse.Namespace) -> ModelServerConfig:
    """The models that parsed flags name.

    Raises:
        SpinetError: if the file cannot be read, or no flag names any.
    """
    if args.model_config_file:
        return read_text_message(args.model_config_file, ModelServerConfig())
    if not args.model_base_path:
        raise SpinetError(
            "Expected --model_base_path, the folder with the numbered versions of a SavedModel, or --model_config_file."
        )
    return single_model(args.model_name, args.model_base_path)
