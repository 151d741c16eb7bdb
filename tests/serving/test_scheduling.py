"""Batches form, run and fail by TensorFlow Serving's rules, on models of NumPy."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
import tensorflow as tf

from serving.batching import Batching
from serving.metrics import Metrics
from serving.scheduling import Queue, Scheduler
from spinet_tf.errors import SpinetError


class Gate:
    """A model that doubles what it gets, but lets nothing through until it is opened."""

    def __init__(self):
        self.opened = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.batches = []
        self.timeouts = []

    def __call__(self, inputs, outputs, timeout):
        self.batches.append(inputs["x"].ravel().tolist())
        self.timeouts.append(timeout)
        self.arrived.release()
        assert self.opened.wait(30)
        if (inputs["x"] < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "Expected positive x.")
        return dict.fromkeys(outputs, inputs["x"] * 2)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def start(gate):
    """A function that makes a queue over one thread, which the first request keeps busy until the gate is opened."""
    schedulers = []

    def make(busy=True, threads=1, **batching):
        scheduler = Scheduler(threads)
        schedulers.append(scheduler)
        queue = Queue(scheduler, gate, Batching(**batching) if batching else None, Metrics())
        if busy:
            queue.first = queue.submit({"x": np.zeros((1, 1))}, ["y"], alone=True)
            assert gate.arrived.acquire(timeout=30)
        return queue

    yield make
    gate.opened.set()
    for scheduler in schedulers:
        scheduler.close()


def x(*values):
    return {"x": np.array(values, float)[:, None]}


def submit(queue, *values, **kwargs):
    return queue.submit(x(*values), ["y"], **kwargs)


def values(future):
    return future.result(30)["y"].ravel().tolist()


# === How batches form ===


def test_waiting_requests_go_into_one_batch_and_get_their_own_answers(start, gate):
    queue = start(max_batch_size=8)
    futures = [submit(queue, 1), submit(queue, 2, 3), submit(queue, 4)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2], [4, 6], [8]]
    assert gate.batches[1:] == [[1, 2, 3, 4]]


def test_a_batch_is_closed_when_the_next_request_does_not_fit(start, gate):
    queue = start(max_batch_size=3)
    futures = [submit(queue, 1, 2), submit(queue, 3, 4), submit(queue, 5)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2, 4], [6, 8], [10]]
    assert gate.batches[1:] == [[1, 2], [3, 4, 5]]


def test_without_batching_every_request_runs_alone(start, gate):
    queue = start()
    futures = [submit(queue, 1), submit(queue, 2)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2], [4]]
    assert gate.batches[1:] == [[1], [2]]


def test_a_request_for_some_outputs_does_not_join_a_batch(start, gate):
    queue = start(max_batch_size=8)
    futures = [submit(queue, 1), queue.submit(x(2), ["z"], alone=True), submit(queue, 3)]
    gate.opened.set()
    assert futures[1].result(30)["z"].item() == 4
    assert [values(futures[0]), values(futures[2])] == [[2], [6]]
    assert sorted(gate.batches[1:]) == [[1, 3], [2]]


def test_a_batch_is_filled_up_to_an_allowed_size(start, gate):
    queue = start(max_batch_size=8, allowed_sizes=(2, 4, 8))
    futures = [submit(queue, 1, 2), submit(queue, 3)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2, 4], [6]]
    assert gate.batches[1:] == [[1, 2, 3, 3]]


def test_a_full_batch_does_not_wait_and_others_wait_for_the_timeout(start, gate):
    gate.opened.set()
    queue = start(busy=False, max_batch_size=2, timeout=0.2)
    started = time.monotonic()
    with queue._scheduler.condition:
        futures = [submit(queue, 1), submit(queue, 2)]
    assert [values(future) for future in futures] == [[2], [4]]
    # Nothing else is waited for: however slow the machine, the timeout has to pass first.
    alone = submit(queue, 3)
    assert values(alone) == [6]
    assert time.monotonic() - started >= 0.2
    assert gate.batches == [[1, 2], [3]]


def test_what_waits_for_a_timeout_runs_when_the_server_stops(start, gate):
    gate.opened.set()
    queue = start(busy=False, max_batch_size=2, timeout=1000)
    future = submit(queue, 1)
    queue._scheduler.close()
    assert values(future) == [2]


def test_queues_take_turns(start, gate):
    queue = start(max_batch_size=1)
    other_gate = Gate()
    other = Queue(queue._scheduler, other_gate, Batching(max_batch_size=1), Metrics())
    order = []
    for name, submitted in [("a", queue), ("a", queue), ("b", other), ("b", other)]:
        submit(submitted, 1).add_done_callback(lambda _, name=name: order.append(name))
    other_gate.opened.set()
    gate.opened.set()
    queue._scheduler.close()
    assert order in (["a", "b", "a", "b"], ["b", "a", "b", "a"])


def test_threads_run_batches_at_once(start, gate):
    queue = start(threads=2, max_batch_size=1)
    submit(queue, 1)
    assert gate.arrived.acquire(timeout=30)
    assert len(gate.batches) == 2


# === What is too much ===


def test_more_rows_than_a_batch_may_have_are_refused(start):
    queue = start(max_batch_size=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Task size 3 is larger than maximum input batch size 2"):
        submit(queue, 1, 2, 3)


def test_a_full_queue_is_unavailable_until_a_thread_takes_a_batch(start, gate):
    queue = start(max_batch_size=2, max_enqueued_batches=2)
    futures = [submit(queue, 1, 2), submit(queue, 3)]
    with pytest.raises(tf.errors.UnavailableError, match="currently 2 batches enqueued and max_enqueued_batches is 2"):
        submit(queue, 4, 5)
    # The open batch has room for one.
    futures.append(submit(queue, 6))
    gate.opened.set()
    assert [values(future) for future in futures] == [[2, 4], [6], [12]]
    assert values(submit(queue, 4, 5)) == [8, 10]


def test_large_requests_are_split_where_that_is_allowed(start, gate):
    queue = start(max_batch_size=8, max_execution_batch_size=3, max_enqueued_batches=4)
    futures = [submit(queue, 1, 2), submit(queue, 3, 4, 5, 6, 7)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2, 4], [6, 8, 10, 12, 14]]
    assert gate.batches[1:] == [[1, 2, 3], [4, 5, 6], [7]]


def test_large_requests_are_refused_where_their_parts_do_not_fit_the_queue(start):
    queue = start(max_batch_size=8, max_execution_batch_size=2, max_enqueued_batches=2)
    submit(queue, 1)
    with pytest.raises(tf.errors.UnavailableError, match="is full"):
        submit(queue, 2, 3, 4, 5)
    submit(queue, 2, 3, 4)


# === What fails ===


def test_an_error_is_that_of_every_request_in_the_batch(start, gate):
    queue = start(max_batch_size=8)
    futures = [submit(queue, 1), submit(queue, -2)]
    gate.opened.set()
    errors = [future.exception(30) for future in futures]
    assert [type(error) for error in errors] == [tf.errors.InvalidArgumentError] * 2
    assert [error.message for error in errors] == ["Expected positive x."] * 2
    assert errors[0] is not errors[1]
    assert values(submit(queue, 3)) == [6]


def test_shapes_that_differ_fail_the_batch_without_padding_and_not_with_it(start, gate):
    refused, padded = start(max_batch_size=8), start(max_batch_size=8, pad=True)
    gate.opened.set()
    for queue, failed in [(refused, True), (padded, False)]:
        with queue._scheduler.condition:
            futures = [queue.submit({"x": np.ones((1, width))}, ["y"]) for width in (2, 3)]
        assert [isinstance(future.exception(30), tf.errors.FailedPreconditionError) for future in futures] == [
            failed
        ] * 2
    assert futures[0].result()["y"].shape == (1, 3)


def test_errors_that_nobody_expects_are_internal_ones_and_the_thread_lives(start, gate, monkeypatch, caplog):
    queue = start(max_batch_size=8)
    futures = [submit(queue, 1), queue.submit({"z": np.ones((1, 1))}, ["y"])]
    gate.opened.set()
    for future in futures:
        error = future.exception(30)
        assert isinstance(error, tf.errors.InternalError)
        assert error.message == "KeyError: 'x'"
    assert "A batch failed" in caplog.text
    assert values(submit(queue, 3)) == [6]


def test_a_part_that_fails_fails_the_request(start, gate):
    queue = start(max_batch_size=8, max_execution_batch_size=2)
    future = submit(queue, 1, 2, -3)
    gate.opened.set()
    assert isinstance(future.exception(30), tf.errors.InvalidArgumentError)


# === What is not waited for any more ===


def test_cancelled_requests_do_not_run(start, gate):
    queue = start(max_batch_size=8)
    dropped, kept = submit(queue, 1), submit(queue, 2)
    assert dropped.cancel()
    gate.opened.set()
    assert values(kept) == [4]
    assert gate.batches[1:] == [[2]]
    with pytest.raises(CancelledError):
        dropped.result()


def test_all_parts_of_a_cancelled_request_are_dropped(start, gate):
    queue = start(max_batch_size=8, max_execution_batch_size=2)
    dropped, kept = submit(queue, 1, 2, 3), submit(queue, 4)
    assert dropped.cancel()
    gate.opened.set()
    assert values(kept) == [8]
    assert gate.batches[1:] == [[4]]


def test_requests_that_run_cannot_be_cancelled(start, gate):
    queue = start()
    assert not queue.first.cancel()
    gate.opened.set()
    assert values(queue.first) == [0]


@pytest.mark.parametrize(
    ("batching", "error"),
    [({"max_batch_size": 8}, tf.errors.ResourceExhaustedError), ({}, tf.errors.DeadlineExceededError)],
)
def test_expired_requests_do_not_run(start, gate, batching, error):
    queue = start(**batching)
    expired, kept = submit(queue, 1, deadline=time.monotonic()), submit(queue, 2, deadline=time.monotonic() + 100)
    gate.opened.set()
    assert values(kept) == [4]
    assert isinstance(expired.exception(30), error)
    assert gate.batches[1:] == [[2]]


def test_a_batch_may_take_as_long_as_the_most_patient_of_its_requests(start, gate):
    queue = start(max_batch_size=2)
    now = time.monotonic()
    futures = [submit(queue, 1, deadline=now + 100), submit(queue, 2, deadline=now + 200)]
    futures += [submit(queue, 3, deadline=now + 100), submit(queue, 4)]
    gate.opened.set()
    assert [values(future) for future in futures] == [[2], [4], [6], [8]]
    assert 100 < gate.timeouts[1] <= 200
    assert gate.timeouts[2] is None


# === What is counted ===


def test_batches_are_counted(start, gate):
    scheduler, metrics = Scheduler(1), Metrics()
    gate.opened.set()
    queue = Queue(scheduler, gate, Batching(max_batch_size=4, allowed_sizes=(4,)), metrics)
    values(submit(queue, 1, 2, 3))
    scheduler.close()
    text = metrics.text().decode()
    assert ":tensorflow:serving:batching_session:input_batch_size_sum 3.0" in text
    assert ":tensorflow:serving:batching_session:processed_batch_size_sum 4.0" in text
    assert ':tensorflow:serving:batching_session:padding_size_sum{execution_batch_size="4"} 1.0' in text
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""} 1.0' in text


# === What is refused from the start ===


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_batch_size": 0}, "Expected max_batch_size and max_enqueued_batches of 1 or more"),
        ({"timeout": -1e-6}, "Received: 1000, 10 and -1"),
        ({"max_batch_size": 8, "allowed_sizes": (2, 4)}, "end with the greatest batch, 8. Received: \\[2, 4\\]"),
        ({"max_batch_size": 4, "allowed_sizes": (2, 2, 4)}, "Expected allowed_batch_sizes to increase"),
        ({"max_batch_size": 4, "max_execution_batch_size": 5}, "Expected max_execution_batch_size from 1 to"),
    ],
)
def test_batching_that_tensorflow_serving_refuses_is_refused(given, message):
    with pytest.raises(SpinetError, match=message):
        Batching(**given)
