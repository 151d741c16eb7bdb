"""What both clients ask and answer, and how they take failures; every test runs with either."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from spinet_client import AsyncClient, Client, ServingError, attempts
from spinet_client.calls import Description, Model, Signature, Tensor, VersionStatus

from tests.serving.client.fake import BANDS, SCALE, VERSION, FakeServer, MeanEngine

GONE = (grpc.StatusCode.UNAVAILABLE, "gone")
FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")


def images(batch=1, time=3, height=4, width=5):
    return np.random.default_rng(3).integers(1, 10000, (batch, time, height, width, len(BANDS)), np.uint16)


# === What is asked and answered ===


def test_probabilities_are_the_models(fake, ask):
    sent, num_frames = images(batch=2), np.array([3, 1])
    answer = ask(fake.address, "predict", sent, num_frames)
    np.testing.assert_array_equal(answer, MeanEngine().predict(sent, num_frames))
    assert answer.dtype == np.float32
    assert answer.shape == (2, 4 * SCALE, 5 * SCALE, 1)


def test_all_frames_are_real_unless_said(fake, ask):
    np.testing.assert_array_equal(ask(fake.address, "predict", images()), MeanEngine().predict(images(), np.array([3])))


def test_the_uint8_signature(fake, ask):
    answer = ask(fake.address, "predict", images(), signature="uint8")
    assert answer.dtype == np.uint8
    np.testing.assert_array_equal(answer, np.rint(254 * MeanEngine().predict(images(), np.array([3]))))


def test_description_metadata_and_status(fake, ask):
    assert ask(fake.address, "describe") == Description(BANDS, SCALE)
    inputs = {"images": Tensor("uint16", (-1, -1, -1, -1, 3))}
    assert ask(fake.address, "metadata") == {
        "serving_default": Signature(inputs, {"probabilities": Tensor("float32", None)})
    }
    assert list(fake.requests[-1].metadata_field) == ["signature_def"]
    fake.states = [[{"version": 9, "state": "END", "status": {"error_message": "broken"}}, fake.states[0][0]]]
    assert ask(fake.address, "status") == [VersionStatus(VERSION, "AVAILABLE", ""), VersionStatus(9, "END", "broken")]


@pytest.mark.parametrize("method", ["predict", "describe", "metadata", "status"])
@pytest.mark.parametrize("model", [Model("spinet"), Model("fields", version=0), Model("fields", label="stable")])
def test_model_version_and_label_are_sent(fake, ask, method, model):
    arguments = {"model": model.name, "version": model.version, "label": model.label}
    ask(fake.address, method, *([images()] if method == "predict" else []), client=arguments)
    spec = fake.requests[0].model_spec
    assert spec.name == model.name
    assert (spec.version.value if spec.HasField("version") else None) == model.version
    assert (spec.version_label or None) == model.label
    assert bool(spec.signature_name) == (method in ("predict", "describe"))


def test_the_token_is_sent(fake, ask):
    ask(fake.address, "describe", client={"token": "secret"})
    ask(fake.address, "describe")
    assert [metadata.get("authorization") for metadata in fake.metadata] == ["Bearer secret", None]


def test_messages_of_more_than_4_mib_pass_both_ways(fake, ask):
    sent = np.full((1, 1, 900, 800, 3), 3000, np.uint16)
    answer = ask(fake.address, "predict", sent)
    assert min(sent.nbytes, answer.nbytes) > 4 * 2**20
    np.testing.assert_array_equal(answer, np.full((1, 1800, 1600, 1), 0.3, np.float32))


# === Failures that pass ===


@pytest.mark.parametrize("method", ["predict", "describe", "metadata", "status"])
def test_requests_are_repeated_while_the_server_is_gone_or_full(fake, ask, hasty, method):
    fake.failures = [GONE, FULL, GONE]
    ask(fake.address, method, *([images()] if method == "predict" else []), client={"retries": 3})
    assert len(fake.requests) == 4


def test_requests_are_given_up_after_so_many_retries(fake, ask, hasty):
    fake.failures = [FULL] * 9
    with pytest.raises(ServingError, match=r"has too much to do.*It says: queue is full$") as raised:
        ask(fake.address, "predict", images(), client={"retries": 2})
    assert len(fake.requests) == 3
    assert raised.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_are_given_up_when_their_time_is_over(fake, ask, hasty):
    fake.failures = [GONE] * 10000
    # The time may be over in a pause or in a try.
    with pytest.raises(ServingError, match=r"No server answers|gave no answer within"):
        ask(fake.address, "predict", images(), client={"retries": None, "timeout": 0.2})
    assert 1 < len(fake.requests) < 10000


def test_servers_take_turns(fake, ask):
    with FakeServer() as other:
        ask([fake.address, other.address], "predict_scene", images()[0], tile=3, overlap=1, concurrency=1, means="tile")
        assert len(fake.requests) > 1
        assert abs(len(fake.requests) - len(other.requests)) <= 1


def test_other_servers_stand_in_at_once(fake, ask):
    with FakeServer() as gone, FakeServer() as full:
        gone.stop()
        full.failures = [FULL] * 9
        # Each begins with another server, and no round is repeated.
        for order in ([gone, full, fake], [full, gone, fake], [fake, gone, full]):
            addresses = ",".join(server.address for server in order)
            assert ask(addresses, "describe", client={"retries": 0}).scale == SCALE


# === Failures that do not ===


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, r"^The server at .* refused the request \(INVALID_ARGUMENT\): why it did$"),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        (grpc.StatusCode.INTERNAL, "INTERNAL"),
        (grpc.StatusCode.ABORTED, "ABORTED"),
        (grpc.StatusCode.UNAUTHENTICATED, "without its token. It says: why it did"),
        (grpc.StatusCode.UNIMPLEMENTED, "Another server answers there: why it did"),
        (grpc.StatusCode.CANCELLED, "was cancelled, by closing the client or by the server: why it did"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, r"gave no answer within 300 s\. Allow more time, or send smaller tiles"),
    ],
)
def test_other_failures_are_one_line_and_final(fake, ask, code, message):
    fake.failures = [(code, "why\n\tit did")]
    with pytest.raises(ServingError, match=message) as raised:
        ask(fake.address, "predict", images())
    assert raised.value.code == code
    assert len(fake.requests) == 1


def test_an_answer_that_takes_too_long(fake, ask):
    fake.hold.clear()
    with pytest.raises(ServingError, match=r"gave no answer within 0\.1 s"):
        ask(fake.address, "predict", images(), client={"timeout": 0.1})


def test_a_message_larger_than_the_server_takes(ask):
    with FakeServer(options=[("grpc.max_receive_message_length", 1000)]) as fake:
        with pytest.raises(ServingError, match=r"too large for the server at .*Send smaller tiles or batches"):
            ask(fake.address, "predict", images(time=99))
        assert not fake.requests


def test_no_server(ask, hasty):
    with pytest.raises(
        ServingError, match=r"^No server answers at 127\.0\.0\.1:1\. Check the address.*Connection refused"
    ) as raised:
        ask("127.0.0.1:1", "predict", images())
    assert "\n" not in str(raised.value)


def test_answers_that_are_no_probabilities(fake, ask):
    fake.outputs = lambda *_: {"logits": np.zeros(1), "classes": np.zeros(1)}
    with pytest.raises(ServingError, match=r"answer named probabilities.*Received: classes, logits"):
        ask(fake.address, "predict", images())


def test_signatures_that_cannot_be_read(fake, ask):
    fake.signatures = b"\xff"
    with pytest.raises(ServingError, match="signatures cannot be read"):
        ask(fake.address, "metadata")


def test_a_closed_client_ends_its_requests(fake):
    fake.hold.clear()
    client = Client(fake.address)
    closing = threading.Thread(target=lambda: (fake.wait_for(1), client.close()))
    closing.start()
    with pytest.raises(ServingError, match="was cancelled, by closing the client"):
        client.predict(images())
    closing.join()
    with pytest.raises(ServingError, match="The client was closed"):
        client.predict(images())


def test_a_closed_client_waits_no_longer(fake, monkeypatch):
    monkeypatch.setattr(attempts, "FIRST_DELAY", 1000)
    monkeypatch.setattr(attempts, "LONGEST_DELAY", 1000)
    fake.failures = [GONE]
    failed = threading.Event()
    after = attempts.Attempts.after

    def tell(*args):
        failed.set()
        return after(*args)

    monkeypatch.setattr(attempts.Attempts, "after", tell)
    client = Client(fake.address, timeout=9999)
    closing = threading.Thread(target=lambda: (failed.wait(30), client.close()))
    closing.start()
    with pytest.raises(ServingError, match="The client was closed"):
        client.predict(images())
    closing.join()


def test_a_closed_asynchronous_client_ends_its_requests(fake):
    async def run():
        client = AsyncClient(fake.address)
        request = asyncio.create_task(client.predict(images()))
        await asyncio.to_thread(fake.wait_for, 1)
        await client.close()
        with pytest.raises(ServingError, match="clos"):
            await request
        with pytest.raises(ServingError, match="The client was closed"):
            await client.predict(images())

    fake.hold.clear()
    asyncio.run(run())


def test_an_asynchronous_request_can_be_cancelled(fake):
    async def run():
        async with AsyncClient(fake.address) as client:
            request = asyncio.create_task(client.predict(images()))
            await asyncio.to_thread(fake.wait_for, 1)
            request.cancel()
            # Closed or not, a task that was cancelled is told so.
            await client.close()
            with pytest.raises(asyncio.CancelledError):
                await request

    fake.hold.clear()
    asyncio.run(run())


# === Waiting for a model ===


def test_a_model_is_waited_for(fake, ask, hasty):
    fake.failures = [GONE, (grpc.StatusCode.NOT_FOUND, "not yet")]
    fake.states = [[], [{"version": 1, "state": "LOADING"}], *fake.states]
    assert ask(fake.address, "wait_until_ready") is None
    assert len(fake.requests) == 5


def test_every_server_is_waited_for(fake, ask, hasty):
    with FakeServer() as other:
        other.states = [[], *other.states]
        ask([fake.address, other.address], "wait_until_ready")
        assert (len(fake.requests), len(other.requests)) == (1, 2)


def test_a_model_that_is_not_ready_in_time(fake, ask, hasty):
    fake.states = [[{"version": 3, "state": "LOADING"}]]
    with pytest.raises(ServingError, match=r"^spinet was not ready at .* within 0\.05 s: version 3 is LOADING$"):
        ask(fake.address, "wait_until_ready", 0.05)
    with pytest.raises(ServingError, match=r"not ready at 127\.0\.0\.1:1 within 0\.05 s: No server answers"):
        ask("127.0.0.1:1", "wait_until_ready", 0.05)


# === Arguments ===


@pytest.mark.parametrize(
    ("wrong", "received"),
    [
        (images().astype(np.float32), r"float32 of shape \(1, 3, 4, 5, 3\)"),
        (images()[0], r"uint16 of shape \(3, 4, 5, 3\)"),
        ([[1]], "list"),
    ],
)
def test_other_images_are_refused_before_they_are_sent(ask, wrong, received):
    with pytest.raises(ServingError, match=f"Expected images as uint16.*Received: {received}"):
        ask("127.0.0.1:1", "predict", wrong)


@pytest.mark.parametrize("wrong", [np.array([1.5]), np.array([1, 2]), 3])
def test_other_counts_are_refused_before_they_are_sent(ask, wrong):
    with pytest.raises(ServingError, match=r"Expected num_frames as integers of shape \(1,\)"):
        ask("127.0.0.1:1", "predict", images(), wrong)


@pytest.mark.parametrize(
    "addresses", ["", [], "localhost", "localhost:port", "http://a:1", ["a:1", "b"], "a:1,", "a b:1"]
)
def test_other_addresses_are_refused(addresses):
    with pytest.raises(ServingError, match=r"Expected host:port, such as 127\.0\.0\.1:8500"):
        Client(addresses)


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_a_token_stays_on_this_machine_unless_encrypted(address):
    Client(address, token="secret").close()
    with pytest.raises(ServingError, match=r"may only go to maps\.example\.org:1 encrypted") as raised:
        Client([address, "maps.example.org:1"], token="secret")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 1, "label": "stable"}, "Expected a version or a label. Received: 1 and 'stable'"),
        ({"version": -1}, "version number of 0 or more. Received: -1"),
        ({"version": 2**63}, "version number of 0 or more"),
    ],
)
def test_other_versions_are_refused(arguments, message):
    with pytest.raises(ServingError, match=message):
        Client(**arguments)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("spinet", Model("spinet")),
        ("a.b/3", Model("a.b", version=3)),
        ("spinet/stable", Model("spinet", label="stable")),
    ],
)
def test_models_are_read_and_named(text, model):
    assert Model.parse(text) == model
    assert str(model) == text


@pytest.mark.parametrize("text", ["", "/3", "spinet/", "spinet/3/4", "/"])
def test_other_names_of_models_are_refused(text):
    with pytest.raises(ServingError, match="Expected a model as name, name/version or name/label"):
        Model.parse(text)
