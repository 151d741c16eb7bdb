"""Connections to servers: addresses, encryption and tokens."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from spinet_client.errors import ServingError

_ADDRESS = re.compile(r"(?P<host>[^/\s:]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")

OPTIONS = (
    # A scene's tile is larger than gRPC's limit of 4 MiB, in both directions.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC would wait up to two minutes before it tries to reach a server again that was gone.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A dead machine does not answer at all: after this time another server is asked.
    ("grpc.min_reconnect_backoff_ms", 5000),
)


@dataclass(frozen=True)
class TLS:
    """Files in PEM format for an encrypted connection.

    Attributes:
        root_certificate: of the authority that signed the server's certificate; None for those that gRPC knows.
        certificate: the client's own, where the server asks for one.
        key: the private key of `certificate`.

    Example:
        Client("maps.example.org:8500", tls=TLS(root_certificate="ca.pem"))
    """

    root_certificate: str | os.PathLike | None = None
    certificate: str | os.PathLike | None = None
    key: str | os.PathLike | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes an encrypted channel from.

        Raises:
            ServingError: if a file cannot be read, or only one of certificate and key is given.
        """
        if (self.certificate is None) != (self.key is None):
            raise ServingError("Expected a client certificate and its key. Received: only one of the two.")
        return grpc.ssl_channel_credentials(_read(self.root_certificate), _read(self.key), _read(self.certificate))


def _read(path: str | os.PathLike | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"Cannot read {path}: {error.strerror}. Expected a file in PEM format.") from error


def require_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several addresses as a tuple.

    Args:
        addresses: one "host:port", several in a list or separated by commas.

    Raises:
        ServingError: if there is none, or one is no "host:port".
    """
    given = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    if not given or not all(_ADDRESS.fullmatch(address) for address in given):
        raise ServingError(f"Expected host:port, such as 127.0.0.1:8500. Received: {', '.join(given) or 'nothing'}.")
    return tuple(given)


def require_private(addresses: Sequence[str], tls: TLS | None, token: str | None) -> None:
    """Raise a ServingError if a token would travel in the clear to another machine."""
    if token is not None and tls is None:
        for address in addresses:
            if address.rpartition(":")[0] not in _LOCAL:
                raise ServingError(f"A token may only go to {address} encrypted. Pass tls=TLS(...) with it.")
