"""What both clients are made of: where they ask, for which model, how long and how often."""

import threading
import types
from collections.abc import Sequence
from typing import Any, Self

import grpc

from spinet_client.attempts import Attempts, Rotation
from spinet_client.calls import Call, Model
from spinet_client.channels import OPTIONS, TLS, require_addresses, require_private
from spinet_client.errors import ServingError

CLOSED = "The client was closed. Make another."


class BaseClient:
    """Channels to the servers; subclasses send requests through them, and document the arguments."""

    # The part of gRPC that makes channels.
    _grpc: types.ModuleType

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:8500",
        model: str = "spinet",
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 300.0,
        retries: int | None = 5,
        tls: TLS | None = None,
        token: str | None = None,
    ):
        self.addresses = require_addresses(addresses)
        self.model = Model(model, version, label)
        self.timeout = timeout
        self.retries = retries
        self.tls = tls
        self._token = token
        require_private(self.addresses, tls, token)
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._rotation = Rotation(self.addresses)
        self._closed = threading.Event()
        credentials = None if tls is None else tls.credentials()
        self._channels = {address: self._open(address, credentials) for address in self.addresses}

    def _open(self, address: str, credentials: grpc.ChannelCredentials | None) -> Any:
        if credentials is None:
            return self._grpc.insecure_channel(address, OPTIONS)
        return self._grpc.secure_channel(address, credentials, OPTIONS)

    def _for_scene(self) -> Self:
        """A client of the same model, all of whose requests end when it is closed.

        It repeats requests for as long as the timeout allows: a server that starts anew must not cost the scene.
        """
        return type(self)(
            self.addresses,
            self.model.name,
            version=self.model.version,
            label=self.model.label,
            timeout=self.timeout,
            retries=None,
            tls=self.tls,
            token=self._token,
        )

    def _attempts(self) -> Attempts:
        return Attempts(self._rotation, self.timeout, self.retries)

    def _send(self, call: Call, server: str, timeout: float) -> Any:
        """One try: the response, or what stands for it on an asynchronous channel."""
        if self._closed.is_set():
            raise ServingError(CLOSED)
        method = call.method
        send = self._channels[server].unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        return send(call.request, timeout=timeout, metadata=self._metadata)
