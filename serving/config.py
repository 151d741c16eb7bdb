"""The configuration files of TensorFlow Serving: messages as text.

ModelServerConfig has an official class. The messages of the other files are not in the package tensorflow-serving-api;
they are declared here with the names, types and numbers that they have in TensorFlow Serving.

References:
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/config/model_server_config.proto
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/config/monitoring_config.proto
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/config/ssl_config.proto
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/session_bundle_config.proto
"""

import os
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.batching import Batching
from serving.metrics import PATH
from spinet_tf.errors import SpinetError

MESSAGES = {
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "SSLConfig": {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
    },
}
SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
}

# Those that this process may use.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

AnyMessage = TypeVar("AnyMessage", bound=Message)


def _message_classes() -> dict[str, type[Message]]:
    file = FileDescriptorProto(name="config.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, declared) in enumerate(fields.items(), start=1):
            repeated, _, kind = declared.rpartition(" ")
            field = message.field.add(name=field_name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if repeated:
                field.label = FieldDescriptorProto.LABEL_REPEATED
            if kind in SCALARS:
                field.type = SCALARS[kind]
            else:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                package = "tensorflow.serving" if kind in MESSAGES else "google.protobuf"
                field.type_name = f".{package}.{kind}"
    # A pool of its own: in the common one, the official files would clash with this one if they ever came.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
        for name in MESSAGES
    }


# Any: their fields are known only here.
_CLASSES: dict[str, Any] = _message_classes()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]


def read_text_message(path: str | os.PathLike, message: AnyMessage) -> AnyMessage:
    """Fill `message` from a file in protobuf's text format.

    Raises:
        SpinetError: if the file cannot be read, or holds something else.

    Example:
        read_text_message("models.config", ModelServerConfig())
    """
    name = message.DESCRIPTOR.name
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except OSError as error:
        raise SpinetError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SpinetError(f"Expected a {name} in protobuf's text format in {path}. Received: {error}") from error


def single_model(name: str, base_path: str | os.PathLike) -> ModelServerConfig:
    """The configuration of a server of one model, of which it serves the latest version."""
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(Path(base_path).absolute()), model_platform="tensorflow"
    )
    return config


def batching_of(parameters: Message) -> Batching:
    """What a BatchingParameters says of how requests are put together; defaults where it says nothing.

    Raises:
        SpinetError: for values that TensorFlow Serving refuses.
    """
    given: dict[str, Any] = {
        "allowed_sizes": tuple(parameters.allowed_batch_sizes),
        "pad": parameters.pad_variable_length_inputs,
    }
    for name in ("max_batch_size", "max_enqueued_batches"):
        if parameters.HasField(name):
            given[name] = getattr(parameters, name).value
    if parameters.HasField("batch_timeout_micros"):
        given["timeout"] = parameters.batch_timeout_micros.value / 1e6
    if parameters.enable_large_batch_splitting.value:
        greatest = parameters.max_execution_batch_size if parameters.HasField("max_execution_batch_size") else None
        given["max_execution_batch_size"] = greatest.value if greatest else parameters.max_batch_size.value
    return Batching(**given)


def batch_threads_of(parameters: Message) -> int:
    """How many threads a BatchingParameters asks for, one per core where it says nothing.

    Raises:
        SpinetError: for less than one.
    """
    threads = parameters.num_batch_threads.value if parameters.HasField("num_batch_threads") else CORES
    if threads < 1:
        raise SpinetError(f"Expected num_batch_threads of 1 or more. Received: {threads}.")
    return threads


def metrics_path_of(monitoring: Message) -> str | None:
    """The path at which a MonitoringConfig wants the metrics; None where it wants none."""
    prometheus = monitoring.prometheus_config
    return (prometheus.path or PATH) if prometheus.enable else None
