"""One version of a model, from its folder to its end."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from serving.batching import Batching
from serving.metrics import Metrics
from serving.scheduling import Queue, Scheduler
from serving.session import SavedModelSession
from serving.status import code, failure, reason
from serving.tasks import Outputs
from serving.warmup import warm_up

State = ModelVersionStatus.State

logger = logging.getLogger(__name__)


class Host(NamedTuple):
    """What all versions on a server share.

    Attributes:
        scheduler: runs their requests.
        batching: how requests are put together; None for each alone.
        metrics: counts.
        most_bytes: what one tensor may take.
        warmup: whether warm-up requests are answered.
    """

    scheduler: Scheduler
    batching: Batching | None
    metrics: Metrics
    most_bytes: int
    warmup: bool


class Version:
    """A SavedModel that is loaded, serves, and is unloaded when the last request to it is answered.

    Args:
        name: the model's name.
        number: the version.
        directory: its folder.
        host: what it shares with others.

    Attributes:
        aspired: whether the configuration and the folders want it.
        state: as GetModelStatus reports it.
        error: why it could not be loaded; None if it could.
    """

    def __init__(self, name: str, number: int, directory: Path, host: Host):
        self.name = name
        self.number = number
        self.directory = directory
        self.aspired = True
        self.state = State.START
        self.error: tf.errors.OpError | None = None
        self._host = host
        self._lock = threading.Lock()
        self._users = 0
        self._session: SavedModelSession | None = None
        self._queues: dict[str, Queue] = {}

    def load(self) -> None:
        """Load it and answer its warm-up requests. If that fails, it has ended, and `error` says why."""
        self.state = State.LOADING
        started = time.monotonic()
        try:
            session = self._warm_session()
        # TensorFlow fails on damaged files in ways that it does not list.
        except Exception as error:
            known = isinstance(error, tf.errors.OpError)
            self.error = failure(type(error) if known else tf.errors.InvalidArgumentError, _message(error))
            self.state = State.END
        else:
            self._queues = {name: self._queue(session, name) for name in session.signatures}
            with self._lock:
                self._session = session
                self.state = State.AVAILABLE
        self._host.metrics.observe_load(self.directory, self.error is None, time.monotonic() - started)

    def _warm_session(self) -> SavedModelSession:
        session = SavedModelSession(self.directory)
        try:
            if self._host.warmup:
                self._warm_up(session)
        except BaseException:
            session.close()
            raise
        return session

    def _warm_up(self, session: SavedModelSession) -> None:
        started = time.monotonic()
        status = grpc.StatusCode.OK
        try:
            warm_up(session, self.directory, self._host.most_bytes)
        except tf.errors.OpError as error:
            status = code(error)
            raise
        finally:
            self._host.metrics.observe_warmup(self.directory, status, time.monotonic() - started)

    def _queue(self, session: SavedModelSession, signature_name: str) -> Queue:
        def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None) -> Outputs:
            started = time.monotonic()
            answer = session.run_checked(inputs, signature_name, outputs, timeout)
            self._host.metrics.observe_run(self.name, time.monotonic() - started)
            return answer

        return Queue(self._host.scheduler, run, self._host.batching, self._host.metrics)

    @property
    def session(self) -> SavedModelSession:
        """The loaded model, for those who have acquired the version."""
        if self._session is None:
            raise RuntimeError("The version is not loaded.")
        return self._session

    def acquire(self) -> bool:
        """Keep the version loaded until `release`; false if it is not available."""
        with self._lock:
            available = self.state == State.AVAILABLE
            self._users += available
            return available

    def release(self) -> None:
        """Give it back; the last one to do so unloads a version that was retired."""
        with self._lock:
            self._users -= 1
            session = self._take_session()
        self._end(session)

    def retire(self) -> None:
        """Let no new request in, and unload the version when those under way are answered."""
        with self._lock:
            if self.state != State.AVAILABLE:
                return
            self.state = State.UNLOADING
            session = self._take_session()
        self._end(session)

    def _take_session(self) -> SavedModelSession | None:
        if self.state != State.UNLOADING or self._users:
            return None
        session, self._session = self._session, None
        return session

    def _end(self, session: SavedModelSession | None) -> None:
        if session is None:
            return
        for queue in self._queues.values():
            self._host.scheduler.remove(queue)
        self._queues = {}
        session.close()
        self.state = State.END
        logger.info("Done unloading servable version {name: %s version: %d}", self.name, self.number)

    def submit(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str,
        output_filter: Sequence[str],
        deadline: float | None,
    ) -> Future[Outputs]:
        """Have a request answered; the version has to be acquired until the future is done.

        Args:
            inputs: an array for every input of the signature.
            signature_name: which signature.
            output_filter: the outputs wanted; all of them when empty.
            deadline: by `time.monotonic`; None for none.

        Returns:
            A future of the outputs by name.

        Raises:
            tf.errors.OpError: as `SavedModelSession.run` and `Queue.submit` raise it.
        """
        outputs = self.session.check(inputs, signature_name, output_filter)
        # As in TensorFlow Serving, where batches form of requests for all outputs only.
        alone = len(outputs) < len(self.session.signatures[signature_name].outputs)
        return self._queues[signature_name].submit(inputs, outputs, deadline, alone)

    def status(self) -> ModelVersionStatus:
        """What GetModelStatus reports of it."""
        status = ModelVersionStatus(version=self.number, state=self.state)
        status.status.error_code = 0 if self.error is None else self.error.error_code
        status.status.error_message = "" if self.error is None else reason(self.error)
        return status


def _message(error: Exception) -> str:
    return error.message if isinstance(error, tf.errors.OpError) else str(error)
