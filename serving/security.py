"""Who may ask: encryption and certificates as TensorFlow Serving has them, and a token, which it has not."""

import hmac
import os
from collections.abc import Callable
from pathlib import Path

import grpc
from google.protobuf.message import Message

from spinet_tf.errors import SpinetError

HEADER = "authorization"
REFUSAL = "Expected the header 'authorization: Bearer TOKEN' with the server's token."
# What asks for it can send no header, and it tells nothing.
OPEN_SERVICE = "/grpc.health.v1.Health/"


class Token:
    """A secret that clients send with every request.

    Args:
        path: a file that holds it, in its first line.

    Raises:
        SpinetError: if the file cannot be read or holds none.

    Example:
        Token("token.txt").allows("Bearer abc")
    """

    def __init__(self, path: str | os.PathLike):
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpinetError(f"Cannot read the token in {path}: {error}.") from error
        token = lines[0].strip() if lines else ""
        if not token:
            raise SpinetError(f"Expected a token in the first line of {path}. There is none.")
        self._expected = f"Bearer {token}".encode()

    def allows(self, header: str | bytes | None) -> bool:
        """Whether a header's value shows the token; how long it takes does not depend on where they differ."""
        value = header.encode(errors="replace") if isinstance(header, str) else header or b""
        return hmac.compare_digest(value, self._expected)


class TokenInterceptor(grpc.ServerInterceptor):
    """Answers UNAUTHENTICATED to whoever does not show the token."""

    def __init__(self, token: Token):
        self._token = token

        def refuse(request: bytes, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSAL)

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        headers = dict(handler_call_details.invocation_metadata)
        if handler_call_details.method.startswith(OPEN_SERVICE) or self._token.allows(headers.get(HEADER)):
            return continuation(handler_call_details)
        return self._refusal


def credentials(ssl_config: Message) -> grpc.ServerCredentials:
    """The certificates of an SSLConfig, whose fields hold them as text (PEM).

    Raises:
        SpinetError: if the key or the certificate is missing.

    Example:
        credentials(read_text_message("ssl.config", SSLConfig()))
    """
    if not ssl_config.server_key or not ssl_config.server_cert:
        raise SpinetError("Expected server_key and server_cert in the SSLConfig, as text that begins with -----BEGIN.")
    if ssl_config.client_verify and not ssl_config.custom_ca:
        raise SpinetError("Expected custom_ca in the SSLConfig, as client_verify is true.")
    return grpc.ssl_server_credentials(
        [(ssl_config.server_key.encode(), ssl_config.server_cert.encode())],
        root_certificates=ssl_config.custom_ca.encode() or None,
        require_client_auth=ssl_config.client_verify,
    )
