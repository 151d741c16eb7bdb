"""The one error of this package."""

import re
from collections.abc import Sequence

import grpc

from spinet_client.tiling.errors import SpinetError


class ServingError(SpinetError):
    """A server that cannot be reached or refuses a request, or an argument that cannot be used.

    Args:
        message: what happened and what to do, in one line.
        code: the gRPC code where a server or the connection failed, None otherwise.
    """

    def __init__(self, message: str, code: grpc.StatusCode | None = None):
        super().__init__(message)
        self.code = code


def is_gone(error: grpc.RpcError) -> bool:
    """Whether the server was not there, or left before it answered.

    A server that ends resets the requests that wait in it. gRPC has no better code for that than CANCELLED, with no
    more words; where a server cancels a request for a reason, it says so.
    """
    code = error.code()
    return code == grpc.StatusCode.UNAVAILABLE or (code == grpc.StatusCode.CANCELLED and error.details() == code.name)


def is_passing(error: grpc.RpcError) -> bool:
    """Whether the same request may succeed later: the server is gone or overloaded. Anything else would fail again."""
    return is_gone(error) or (error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and not _is_too_large(error))


def explain(error: grpc.RpcError, servers: Sequence[str], timeout: float) -> ServingError:
    """Say in one line what a failed call means and what to do.

    Args:
        error: of the last try.
        servers: the addresses that were tried, the last one last.
        timeout: the seconds that the request had.

    Returns:
        The error to raise.
    """
    code = grpc.StatusCode.UNAVAILABLE if is_gone(error) else error.code()
    said, last = _one_line(error.details()), servers[-1]
    explanations = {
        grpc.StatusCode.UNAVAILABLE: f"No server answers at {', '.join(servers)}. Check the address, and that a server "
        f"runs there: `python -m serving.server --model_base_path DIR` starts a local one. gRPC says: {said}",
        grpc.StatusCode.RESOURCE_EXHAUSTED: f"The server at {last} has too much to do. Send fewer requests at once, or "
        f"allow more time and retries. It says: {said}",
        grpc.StatusCode.DEADLINE_EXCEEDED: f"The server at {last} gave no answer within {timeout:g} s. Allow more "
        "time, or send smaller tiles.",
        grpc.StatusCode.CANCELLED: f"The request to {last} was cancelled, by closing the client or by the server: "
        f"{said}",
        grpc.StatusCode.UNAUTHENTICATED: f"The server at {last} admits no request without its token. It says: {said}",
        grpc.StatusCode.UNIMPLEMENTED: f"Expected TensorFlow Serving's gRPC services at {last}. Another server answers "
        f"there: {said}",
    }
    message = explanations.get(code, f"The server at {last} refused the request ({code.name}): {said}")
    if _is_too_large(error):
        message = f"The message is too large for the server at {last}. Send smaller tiles or batches. It says: {said}"
    return ServingError(message, code)


def _is_too_large(error: grpc.RpcError) -> bool:
    # gRPC has no code of its own for messages beyond a limit, which no repetition makes smaller.
    return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or "")


def _one_line(details: str | None) -> str:
    # TensorFlow appends where in the graph it happened, which only its developers can use.
    return re.sub(r"\s+", " ", re.split(r"\s*\[\[\{\{node", details or "")[0]).strip()
