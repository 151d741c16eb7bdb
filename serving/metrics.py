"""What the server counts, by the names that TensorFlow Serving's metrics have in Prometheus.

References:
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/servables/tensorflow/util.cc
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/batching/batching_util.h
"""

import os
import re

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

PATH = "/monitoring/prometheus/metrics"

# TensorFlow Serving's own: factors of 1.8 from 10 microseconds to 20 minutes, 1.2 up to a second, and 2 for rows.
LATENCIES = [10 * 1.8**power for power in range(33)]
QUEUING_LATENCIES = [100 * 1.2**power for power in range(52)]
ROWS = [2**power for power in range(14)]

MICROSECONDS = 1e6

# The library appends it to the names of counters, TensorFlow Serving does not; nor does it say when one was created.
SUFFIX = re.compile(rb"^((?:# (?:HELP|TYPE) )?:[a-z_:]+)_total\b", re.MULTILINE)
disable_created_metrics()


class Metrics:
    """The counters of one server. Latencies are given in seconds and counted in microseconds.

    Example:
        metrics = Metrics()
        metrics.observe_load("models/spinet/1", succeeded=True, seconds=1.5)
        print(metrics.text().decode())
    """

    def __init__(self):
        self._registry = CollectorRegistry()
        serving, saved_model = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        self._requests = self._counter(f"{serving}request_count", "Requests by outcome", "model_name", "status")
        self._latency = self._histogram(
            f"{serving}request_latency", "Time of a request in the server", LATENCIES, "model_name", "API", "entrypoint"
        )
        self._runtime = self._histogram(
            f"{serving}runtime_latency", "Time of a graph", LATENCIES, "model_name", "API", "runtime"
        )
        batching = f"{serving}batching_session:"
        self._queuing = self._histogram(
            f"{batching}queuing_latency", "Time of a request in a queue", QUEUING_LATENCIES, "thread_pool_name"
        )
        self._input = self._histogram(f"{batching}input_batch_size", "Rows of a request", ROWS)
        self._processed = self._histogram(f"{batching}processed_batch_size", "Rows of a batch, padding included", ROWS)
        self._padding = self._histogram(
            f"{batching}padding_size", "Rows of padding of a batch", ROWS, "execution_batch_size"
        )
        self._loads = self._counter(f"{saved_model}load_attempt_count", "Versions loaded", "model_path", "status")
        self._load_time = self._counter(f"{saved_model}load_latency", "Time of loading a version", "model_path")
        self._warmup = self._histogram(
            f"{serving}model_warmup_latency", "Time of the warm-up requests", LATENCIES, "model_path", "status"
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: list[float], *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, buckets=buckets, registry=self._registry)

    def observe_request(
        self, model_name: str, api: str, entrypoint: str, status: grpc.StatusCode, seconds: float
    ) -> None:
        """Count a request that is answered, with a result or an error."""
        self._requests.labels(model_name, status.name).inc()
        self._latency.labels(model_name, api, entrypoint).observe(seconds * MICROSECONDS)

    def observe_run(self, model_name: str, seconds: float) -> None:
        """Count a run of a graph."""
        self._runtime.labels(model_name, "Predict", "TF1").observe(seconds * MICROSECONDS)

    def observe_queuing(self, seconds: float) -> None:
        """Count a request that a thread has taken from a queue."""
        self._queuing.labels("").observe(seconds * MICROSECONDS)

    def observe_input_size(self, rows: int) -> None:
        """Count a request that goes into a batch."""
        self._input.observe(rows)

    def observe_batch(self, rows: int, padding: int) -> None:
        """Count a batch of so many rows, the padding included."""
        self._processed.observe(rows)
        self._padding.labels(str(rows)).observe(padding)

    def observe_load(self, path: str | os.PathLike, succeeded: bool, seconds: float) -> None:
        """Count an attempt to load a version."""
        self._loads.labels(str(path), "success" if succeeded else "fail").inc()
        self._load_time.labels(str(path)).inc(seconds * MICROSECONDS)

    def observe_warmup(self, path: str | os.PathLike, status: grpc.StatusCode, seconds: float) -> None:
        """Count the warm-up of a version."""
        self._warmup.labels(str(path), status.name).observe(seconds * MICROSECONDS)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return SUFFIX.sub(rb"\1", generate_latest(self._registry))
