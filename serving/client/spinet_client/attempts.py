"""Which server a request goes to, when it is repeated, and when it is given up; shared by both clients."""

import itertools
import time
from collections.abc import Sequence

import grpc
import numpy as np

from spinet_client.calls import Model, VersionStatus
from spinet_client.errors import ServingError, explain, is_gone, is_passing

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 5.0
# For how long a server that could not be reached is asked last: connecting to a dead machine takes seconds each time.
AVOIDED = 10.0
# How often a server is asked whether a model is ready, and what it may answer before it is.
POLL = 0.2  # seconds
STARTING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DEADLINE_EXCEEDED)


class Rotation:
    """Takes turns among servers.

    Args:
        servers: their addresses.

    Example:
        Rotation(["a:8500", "b:8500"]).order()  # ["a:8500", "b:8500"], then ["b:8500", "a:8500"]
    """

    def __init__(self, servers: Sequence[str]):
        self._servers = list(servers)
        # next() of it is safe in threads.
        self._turn = itertools.count()
        self._failed: dict[str, float] = {}

    def order(self) -> list[str]:
        """All servers in the order in which the next request tries them."""
        turn = next(self._turn) % len(self._servers)
        now = time.monotonic()
        servers = self._servers[turn:] + self._servers[:turn]
        return sorted(servers, key=lambda server: now - self._failed.get(server, -AVOIDED) < AVOIDED)

    def failed(self, server: str) -> None:
        """Note that a server could not be reached."""
        self._failed[server] = time.monotonic()


class Attempts:
    """The tries of one request: a failed one goes to the next server at once, and back to the first after a pause.

    The pauses double from 0.1 s to 5 s, less a random part, so that many clients do not come back all at once.

    Args:
        rotation: of the servers; one request's turn is taken.
        timeout: seconds that the request has, pauses included.
        retries: how often every server is asked again; None for as often as the timeout allows.

    Attributes:
        server: the one to ask now.
    """

    def __init__(self, rotation: Rotation, timeout: float, retries: int | None):
        self._rotation = rotation
        self._servers = rotation.order()
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._retries = retries
        self._failures = 0
        self.server = self._servers[0]

    @property
    def remaining(self) -> float:
        """Seconds until the request is given up."""
        return max(self._deadline - time.monotonic(), 0.0)

    def after(self, error: grpc.RpcError) -> float:
        """Note that the try failed, and turn to the next server.

        Args:
            error: what the try failed with.

        Returns:
            Seconds to wait before the next try.

        Raises:
            ServingError: if there is none: the error is not of those that pass, or retries or time are used up.
        """
        if is_gone(error):
            self._rotation.failed(self.server)
        self._failures += 1
        rounds, turn = divmod(self._failures, len(self._servers))
        exhausted = self._retries is not None and rounds > self._retries
        pause = 0.0
        if turn == 0:
            longest = min(FIRST_DELAY * 2 ** min(rounds - 1, 10), LONGEST_DELAY)
            pause = longest * np.random.default_rng().uniform(0.5, 1.0)
        if not is_passing(error) or exhausted or pause >= self.remaining:
            raise explain(error, self._tried(), self._timeout) from error
        self.server = self._servers[turn]
        return pause

    def _tried(self) -> list[str]:
        # The one that failed last comes last.
        turn = self._failures % len(self._servers)
        asked_all = self._failures >= len(self._servers)
        return (self._servers[turn:] if asked_all else []) + self._servers[:turn]


class Readiness:
    """The wait until a server has a model loaded.

    Args:
        model: which one.
        server: its address.
        timeout: seconds to wait at most.
    """

    def __init__(self, model: Model, server: str, timeout: float):
        self._model = model
        self._server = server
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._problem = ""

    @property
    def remaining(self) -> float:
        """Seconds until it is given up."""
        return max(self._deadline - time.monotonic(), 0.0)

    def after(self, found: list[VersionStatus] | grpc.RpcError) -> float:
        """Judge what the server said.

        Args:
            found: the state of the model's versions, or the error that asking ended in.

        Returns:
            Seconds to wait before asking again; 0 if the model is ready.

        Raises:
            ServingError: if it cannot become ready, or the time is used up.
        """
        if isinstance(found, grpc.RpcError):
            error = explain(found, [self._server], self._timeout)
            if found.code() not in STARTING:
                raise error
            # The question that was under way at the end tells nothing new.
            if found.code() != grpc.StatusCode.DEADLINE_EXCEEDED or not self._problem:
                self._problem = str(error)
        elif any(one.state == "AVAILABLE" for one in found):
            return 0.0
        else:
            states = [f"version {one.version} is {one.state} {one.error}".strip() for one in found]
            self._problem = "; ".join(states) or "it has no version."
            if found and all(one.state == "END" and one.error for one in found):
                raise ServingError(f"The server at {self._server} cannot load {self._model}: {self._problem}")
        if self.remaining <= POLL:
            waited = f"{self._model} was not ready at {self._server} within {self._timeout:g} s"
            raise ServingError(f"{waited}: {self._problem}")
        return POLL
