"""What every server of an exported model keeps: the local one always, TensorFlow Serving itself where there is one.

SPINET_TFS=host:port runs all of it against a model that TensorFlow Serving offers there under the name "spinet".
"""

import os

import grpc
import numpy as np
import pytest
from spinet_client import Client, ServingError


@pytest.fixture(params=["local server", *(["TensorFlow Serving"] if "SPINET_TFS" in os.environ else [])])
def address(request):
    if request.param == "TensorFlow Serving":
        return os.environ["SPINET_TFS"]
    return request.getfixturevalue("server").address


@pytest.fixture
def description(address):
    with Client(address) as client:
        client.wait_until_ready()
        return client.describe()


@pytest.fixture
def images(description, rng):
    return rng.integers(1, 9000, (2, 4, 9, 7, len(description.band_names)), np.uint16)


def test_a_version_is_available_and_has_the_signatures(address, ask, description):
    assert "AVAILABLE" in [found.state for found in ask(address, "status")]
    assert {"serving_default", "uint8", "describe"} <= set(ask(address, "metadata"))
    assert description.scale >= 1


def test_answers_are_probabilities_of_the_fine_grid(address, ask, description, images):
    answer = ask(address, "predict", images)
    assert answer.shape == (2, 9 * description.scale, 7 * description.scale, 1)
    assert answer.dtype == np.float32
    assert answer.min() >= 0
    assert answer.max() <= 1
    assert answer.std() > 0
    steps = ask(address, "predict", images, signature="uint8")
    np.testing.assert_allclose(steps / 254, answer, rtol=0, atol=0.5 / 254 + 1e-5)


def test_padding_and_order_change_nothing(address, ask, images):
    num_frames = np.array([4, 2], np.int32)
    images[1, 2:] = images[1].flat[0]  # as pad_variable_length_inputs pads
    answer = ask(address, "predict", images, num_frames)
    np.testing.assert_allclose(ask(address, "predict", images[1:, :2]), answer[1:], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ask(address, "predict", images[:1, ::-1]), answer[:1], rtol=0, atol=1e-5)


def test_one_frame_of_one_pixel_is_enough(address, ask, description, images):
    answer = ask(address, "predict", images[:1, :1, :1, :1])
    assert answer.shape == (1, description.scale, description.scale, 1)


@pytest.mark.parametrize("num_frames", [[0, 1], [1, 5], [-1, 1]])
def test_numbers_of_frames_that_cannot_be_are_refused_by_the_graph(address, ask, images, num_frames):
    with pytest.raises(ServingError, match="Expected num_frames from 1 to the number of frames") as caught:
        ask(address, "predict", images, np.array(num_frames, np.int32))
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_other_bands_are_refused(address, ask, images):
    with pytest.raises(ServingError, match=r"bands|shape") as caught:
        ask(address, "predict", np.ascontiguousarray(images[..., 1:]))
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("client", "code"),
    [
        ({"model": "nobody"}, grpc.StatusCode.NOT_FOUND),
        ({"version": 987654321}, grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_is_not_served_is_not_found(address, ask, images, client, code):
    with pytest.raises(ServingError) as caught:
        ask(address, "predict", images, client=client)
    assert caught.value.code == code


def test_a_scene_does_not_depend_on_how_many_tiles_are_asked_for_at_once(address, ask, images):
    series = images.repeat(4, axis=2).repeat(5, axis=3)[0]
    valid = np.ones(series.shape[:3], bool)
    one = ask(address, "predict_scene", series, valid, tile=16, overlap=4, concurrency=1)
    four = ask(address, "predict_scene", series, valid, tile=16, overlap=4, concurrency=4)
    np.testing.assert_allclose(four, one, rtol=0, atol=1e-6)
