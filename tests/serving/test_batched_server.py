"""The serving contract under TensorFlow Serving's batching: what is run together is answered as if it had run alone."""

import numpy as np
import pytest
import tensorflow as tf

from export import comparison
from serving.batching import Batching
from serving.server import Server
from spinet_tf.inference.engine import KerasEngine
from tests.serving.requests import images, predict_request

# As in a batching.config with pad_variable_length_inputs: true.
PADDED = Batching(max_batch_size=8, timeout=30.0, allowed_sizes=(2, 4, 8), pad=True)


@pytest.fixture(scope="module")
def padding_server(model_dir):
    with Server(model_dir, port=0, batching=PADDED, num_batch_threads=1, warmup=False) as server:
        yield server


@pytest.fixture
def together(padding_server, connect):
    """A function that has requests answered in one batch; a batch is run when it holds eight rows."""
    stub, _ = connect(padding_server.address)

    def ask(*requests):
        count = len(requests)
        rows = sum(len(sent) for sent, _ in requests)
        fill = (images(PADDED.max_batch_size - rows, time=1, size=1, seed=1), [1] * (PADDED.max_batch_size - rows))
        requests = [*requests, fill] if len(fill[1]) else requests
        futures = [
            stub.Predict.future(predict_request(images=sent, num_frames=np.array(num_frames, np.int32)))
            for sent, num_frames in requests
        ]
        answers = [tf.make_ndarray(future.result(60).outputs["probabilities"]) for future in futures]
        return answers[:count]

    return ask


@pytest.fixture(scope="module")
def alone(tiny_spinet):
    """A function that asks the Keras model for every series alone, without a frame of padding."""
    return comparison.alone(KerasEngine(tiny_spinet))


def batches(server):
    text = server.metrics.text().decode()
    return float(text.split("processed_batch_size_count ")[1].split("\n")[0])


def test_series_of_different_lengths_get_the_answers_they_get_alone(padding_server, together, alone):
    requests = [
        (images(2, time=5, seed=2), [5, 3]),
        (images(1, time=1, seed=3), [1]),
        (images(1, time=2, seed=4), [2]),
        (images(4, time=4, seed=5), [1, 2, 3, 4]),
    ]
    before = batches(padding_server)
    answers = together(*requests)
    assert batches(padding_server) == before + 1
    for answer, request in zip(answers, requests, strict=True):
        expected = alone(*request)
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
        assert expected.std() > 1e-4


def test_padding_that_counted_as_frames_would_change_the_answer(together):
    """As it would with a mask in place of num_frames, which would be padded with its first element, true."""
    sent = images(1, time=2, seed=6)
    padded = np.concatenate([sent, np.full((1, 2, 6, 6, 12), sent.flat[0], np.uint16)], axis=1)
    answers = together((sent, [2]), (padded, [4]))
    assert np.abs(answers[0] - answers[1]).max() > 1e-4


def test_smaller_tiles_come_back_as_large_as_their_neighbours_and_changed_near_the_padding(together, alone):
    """Not cropped, as in TensorFlow Serving: tiles that may be batched have to have one size."""
    small, large = images(1, size=(6, 8), seed=7), images(1, size=(10, 8), seed=8)
    answer, neighbour = together((small, [3]), (large, [3]))
    assert answer.shape == neighbour.shape == (1, 40, 32, 1)
    np.testing.assert_allclose(neighbour, alone(large, [3]), rtol=0, atol=1e-5)
    expected = alone(small, [3])
    # Whole frames enter into some of the network's means, so that no pixel is as it would be alone.
    assert np.abs(answer[:, :24] - expected).max() > 1e-4


def test_rows_that_fill_a_batch_up_change_nothing(toys, connect, rng):
    batching = Batching(max_batch_size=4, allowed_sizes=(4,), pad=True)
    x, n = rng.random((3, 5), np.float32), np.array([1, 2, 3], np.int32)
    with Server(toys(1), "toy", port=0, batching=batching) as server:
        stub, _ = connect(server.address)
        outputs = stub.Predict(predict_request("toy", "sums", x=x, n=n), timeout=30).outputs
        assert 'padding_size_sum{execution_batch_size="4"} 1.0' in server.metrics.text().decode()
    np.testing.assert_allclose(tf.make_ndarray(outputs["sum"]), x.sum(1), rtol=1e-6)
    np.testing.assert_array_equal(tf.make_ndarray(outputs["n"]), n + 1)


def test_bands_and_scale_are_told_to_requests_in_a_batch(padding_server, connect):
    stub, _ = connect(padding_server.address)
    futures = [
        stub.Predict.future(predict_request(signature="describe", request=np.zeros(4, np.int32))) for _ in range(2)
    ]
    for future in futures:
        outputs = future.result(60).outputs
        assert tf.make_ndarray(outputs["scale"]).tolist() == [4] * 4
        assert tf.make_ndarray(outputs["bands"]).shape == (4, 12)
