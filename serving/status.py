"""Errors as TensorFlow Serving gives them, over gRPC and over HTTP.

They are raised as TensorFlow's own errors (`tf.errors.NotFoundError` and so on), whose codes are gRPC's.
"""

import grpc
import tensorflow as tf

GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}

HTTP_CODES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

# gRPC sends it in a header, and headers are limited to 8 KiB.
LONGEST_REASON = 2000


def failure(kind: type[tf.errors.OpError], message: str) -> tf.errors.OpError:
    """Return an error of TensorFlow's that no operation of a graph has raised.

    Args:
        kind: its class, which decides the code.
        message: what the client is told.

    Example:
        raise failure(tf.errors.InvalidArgumentError, "Missing ModelSpec")
    """
    return kind(None, None, message)


def code(error: tf.errors.OpError) -> grpc.StatusCode:
    """The code with which gRPC reports `error`."""
    return GRPC_CODES[error.error_code]


def http_code(error: tf.errors.OpError) -> int:
    """The status with which HTTP reports `error`."""
    return HTTP_CODES.get(code(error), 500)


def reason(error: tf.errors.OpError) -> str:
    """What a client can act on: the message without the names of graph nodes, in a header's length."""
    return error.message.removeprefix("Graph execution error:\n\n").split("\n\t [[")[0][:LONGEST_REASON]
