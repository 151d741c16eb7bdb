"""TensorFlow Serving's messages and methods, from our own .proto files.

They have the full names of the official classes, so they live in a descriptor pool of their own: protobuf's default
pool takes each name once, and a program may import TensorFlow beside this package.
"""

from dataclasses import dataclass
from importlib import resources

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

# Compiled from serving/client/protos; README.md there has the command.
FILE = "protos.binpb"

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(resources.files("spinet_client").joinpath(FILE).read_bytes()).file:
    _pool.AddSerializedFile(_file.SerializeToString())


def message_class(name: str) -> type[Message]:
    """Return the class of a message.

    Args:
        name: its full name, such as "tensorflow.serving.PredictRequest".

    Returns:
        The class, which is not the one of the same name in TensorFlow's packages, but reads and writes the same bytes.

    Example:
        message_class("tensorflow.TensorProto")(dtype=3)
    """
    return GetMessageClass(_pool.FindMessageTypeByName(name))


@dataclass(frozen=True)
class Method:
    """One method of a service.

    Attributes:
        path: names it in HTTP/2.
        request: the class of what it takes.
        response: the class of what it answers.
    """

    path: str
    request: type[Message]
    response: type[Message]


def _method(service: str, name: str) -> Method:
    method = _pool.FindServiceByName(f"tensorflow.serving.{service}").FindMethodByName(name)
    return Method(
        f"/tensorflow.serving.{service}/{name}", GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    )


PREDICT = _method("PredictionService", "Predict")
GET_MODEL_METADATA = _method("PredictionService", "GetModelMetadata")
GET_MODEL_STATUS = _method("ModelService", "GetModelStatus")
