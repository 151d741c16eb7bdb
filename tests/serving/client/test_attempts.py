"""Which server is asked, when it is asked again, and when a request is given up."""

from types import SimpleNamespace

import grpc
import pytest
from spinet_client import ServingError, attempts
from spinet_client.attempts import Attempts, Readiness, Rotation
from spinet_client.calls import Model, VersionStatus

PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Failure(grpc.RpcError):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE, details="gone"):
        self.code = lambda: code
        self.details = lambda: details


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(attempts, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_servers_take_turns():
    rotation = Rotation(["a", "b", "c"])
    assert [rotation.order() for _ in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_servers_that_were_gone_are_asked_last_for_a_while(clock):
    rotation = Rotation(["a", "b", "c"])
    rotation.failed("a")
    assert [rotation.order() for _ in range(3)] == [list("bca"), list("bca"), list("cba")]
    clock.now += attempts.AVOIDED
    assert rotation.order() == list("abc")


def test_the_next_server_is_asked_at_once_and_the_first_again_after_a_pause(clock):
    attempt = Attempts(Rotation(["a", "b"]), timeout=100, retries=1)
    asked = [(attempt.server, attempt.after(Failure()) > 0) for _ in range(3)]
    assert [*asked, attempt.server] == [("a", False), ("b", True), ("a", False), "b"]
    with pytest.raises(ServingError, match="No server answers at a, b"):
        attempt.after(Failure())


def test_pauses_double_up_to_five_seconds_less_a_random_part(clock):
    rotation = Rotation(["a"])

    def pauses():
        attempt = Attempts(rotation, timeout=100, retries=None)
        return [attempt.after(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED)) for _ in range(9)]

    first, second = pauses(), pauses()
    longest = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(first, longest, strict=True))
    assert first != second


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code.name not in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")]
)
def test_other_failures_are_final(code):
    attempt = Attempts(Rotation(["a", "b"]), timeout=100, retries=None)
    with pytest.raises(ServingError, match=r"(at|to) a") as raised:
        attempt.after(Failure(code, "why"))
    assert raised.value.code == code


def test_a_request_that_an_ending_server_resets_is_repeated():
    attempt = Attempts(Rotation(["a", "b"]), timeout=100, retries=0)
    assert attempt.after(Failure(grpc.StatusCode.CANCELLED, "CANCELLED")) == 0
    with pytest.raises(ServingError, match="No server answers at a, b"):
        attempt.after(Failure(grpc.StatusCode.CANCELLED, "CANCELLED"))


def test_a_message_too_large_is_final():
    attempt = Attempts(Rotation(["a"]), timeout=100, retries=None)
    details = "SERVER: Received message larger than max (9 vs. 5)"
    with pytest.raises(ServingError, match=r"too large for the server at a\. Send smaller tiles"):
        attempt.after(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, details))


def test_a_request_is_given_up_when_its_time_would_end_in_the_pause(clock):
    attempt = Attempts(Rotation(["a"]), timeout=10, retries=None)
    assert attempt.remaining == 10
    clock.now += 9.96
    with pytest.raises(ServingError, match="No server answers at a"):
        attempt.after(Failure())
    clock.now += 1
    assert attempt.remaining == 0


def test_the_server_that_failed_last_is_named():
    attempt = Attempts(Rotation(["a", "b", "c"]), timeout=10, retries=None)
    for _ in range(4):
        attempt.after(Failure())
    with pytest.raises(ServingError, match=r"server at b refused the request \(INTERNAL\): broken"):
        attempt.after(Failure(grpc.StatusCode.INTERNAL, "broken"))
    attempt = Attempts(Rotation(["a", "b"]), timeout=10, retries=None)
    with pytest.raises(ServingError, match=r"server at a refused"):
        attempt.after(Failure(grpc.StatusCode.INTERNAL))


def test_where_in_the_graph_it_happened_is_left_out():
    attempt = Attempts(Rotation(["a"]), timeout=10, retries=None)
    details = "Expected num_frames\nfrom 1 to 3\n\t [[{{node assert_1/Assert}}]] [[StatefulPartitionedCall]]"
    with pytest.raises(ServingError) as raised:
        attempt.after(Failure(grpc.StatusCode.INVALID_ARGUMENT, details))
    assert str(raised.value).endswith("(INVALID_ARGUMENT): Expected num_frames from 1 to 3")


def version(state, error="", number=1):
    return VersionStatus(number, state, error)


@pytest.mark.parametrize(
    "found",
    [
        [version("LOADING")],
        [],
        [version("END", "broken"), version("LOADING", number=2)],
        [version("END")],
        Failure(),
        Failure(grpc.StatusCode.NOT_FOUND),
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_model_that_may_become_ready_is_waited_for(clock, found):
    readiness = Readiness(Model("spinet"), "a", timeout=10)
    assert readiness.after(found) > 0
    clock.now += 10
    with pytest.raises(ServingError, match="spinet was not ready at a within 10 s"):
        readiness.after(found)


def test_what_was_known_before_the_time_was_over_is_told(clock):
    readiness = Readiness(Model("spinet"), "a", timeout=10)
    readiness.after([version("LOADING")])
    clock.now += 10
    with pytest.raises(ServingError, match=r"within 10 s: version 1 is LOADING$"):
        readiness.after(Failure(grpc.StatusCode.DEADLINE_EXCEEDED))


def test_one_available_version_is_enough():
    versions = [version("END", "broken", 2), version("AVAILABLE")]
    assert Readiness(Model(), "a", timeout=10).after(versions) == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            [version("END", "no such file"), version("END", "broken", 2)],
            "cannot load spinet/2: version 1 is END no such",
        ),
        (Failure(grpc.StatusCode.UNAUTHENTICATED), "without its token"),
    ],
)
def test_a_model_that_will_never_be_ready_is_not_waited_for(found, message):
    with pytest.raises(ServingError, match=message):
        Readiness(Model("spinet", version=2), "a", timeout=10).after(found)
