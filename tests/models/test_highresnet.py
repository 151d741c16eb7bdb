"""HighRes-net: the authors' numbers, and the properties that mark it."""

import keras
import numpy as np
import pytest

from spinet_tf import HighResNet
from spinet_tf.interop import load_highresnet_weights
from spinet_tf.models.highresnet import RecursiveFusion
from tests.helpers import assert_close, graph, padded, randomize


@pytest.fixture(scope="module")
def golden(goldens):
    return goldens("highresnet_c16")


@pytest.fixture(scope="module")
def published(golden):
    model = HighResNet(bands=1, scale=3, filters=16)
    load_highresnet_weights(model, {name[2:]: array for name, array in golden.items() if name.startswith("w/")})
    return model


@pytest.fixture(scope="module")
def model():
    return randomize(HighResNet(bands=3, scale=2, filters=6, blocks=1))


def last(x):
    return np.moveaxis(x, 1, -1)


def test_equals_the_published_network(published, golden):
    """The published reference counts the padding, so the encoder is shown all frames as real."""
    x, real = golden["x"][..., None], golden["alphas"] == 1
    encoder, fusion, upsampling, activation, projection = published.layers[-5:]
    y = encoder(x)
    encoded = golden["i/encoded"].reshape(*real.shape, *golden["i/encoded"].shape[1:])
    assert_close(y, np.moveaxis(encoded, 2, -1))
    y = fusion(y, mask=real)
    assert_close(y, last(golden["i/fused"]))
    assert_close(projection(activation(upsampling(y))), last(golden["y_f64"]))


def test_the_whole_model_is_its_parts(published, golden):
    inputs = {"images": golden["x"][..., None], "frame_mask": np.ones(golden["alphas"].shape, bool)}
    y = inputs["images"]
    for layer in published.layers[-5:]:
        y = layer(y)
    assert_close(graph(published)(inputs), y)


def test_the_reference_is_the_lower_median_of_the_first_nine_real_frames(rng):
    """Where every pixel of a frame is one number, its reference is the median of those numbers."""
    encoder = randomize(HighResNet(bands=1, scale=2, filters=4, blocks=1)).get_layer("encoder")
    for frames, real, expected in ((1, 1, 0), (4, 4, 1), (9, 9, 4), (12, 12, 4), (12, 6, 2), (3, 2, 0)):
        levels = np.full(frames, 100.0)
        levels[: min(real, 9)] = rng.permutation(min(real, 9))
        x = np.broadcast_to(levels[:, None, None, None], (frames, 3, 3, 1)).astype("float32")
        mask = np.arange(frames) < real
        y = encoder(np.where(mask[:, None, None, None], x, np.nan)[None], mask=mask[None])
        pairs = np.concatenate([x, np.full_like(x, expected)], axis=-1)
        assert_close(y[0, :real], encoder._encode(pairs)[:real])


def test_one_frame_needs_no_partner(model, rng):
    x = rng.normal(size=(2, 1, 4, 5, 3)).astype("float32")
    encoded = model.get_layer("encoder")(x)
    assert_close(model.get_layer("fusion")(encoded), encoded[:, 0])


def test_frames_are_fused_in_pairs_by_their_validity(rng):
    """Second half reversed onto the first, last frame of five dropped, partners that are not real weigh nothing."""
    fusion = RecursiveFusion(4)
    fusion.build((None, None, None, None, 4))
    randomize(fusion)
    x = rng.normal(size=(1, 5, 3, 3, 4)).astype("float32")

    def fuse(first, second):
        return fusion._fuse(np.concatenate([first, second], axis=-1))

    for mask in ([1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]):
        real = np.where(np.reshape(mask, (1, 5, 1, 1, 1)), x, 0)
        a = real[:, 0] + mask[3] * fuse(real[:, 0], real[:, 3])
        b = real[:, 1] + mask[2] * fuse(real[:, 1], real[:, 2])
        expected = a + mask[1] * fuse(a, b)
        assert_close(fusion(x, mask=np.array([mask], bool)), expected)


def test_any_length_through_one_graph(model, rng):
    run = graph(model)
    for time in (1, 2, 3, 6, 9, 20):
        inputs = padded([rng.normal(size=(time, 4, 5, 3))], time, 0, rng)
        y = run(inputs)
        assert y.shape == (1, 8, 10, 1)
        assert_close(y, model(inputs))


def test_order_matters(model, rng):
    inputs = padded([rng.normal(size=(6, 4, 5, 3))], 6, 0, rng)
    shuffled = {**inputs, "images": inputs["images"][:, ::-1]}
    assert np.abs(model(inputs) - model(shuffled)).max() > 1e-2


def test_padding_may_hold_anything(model, rng):
    samples = [rng.normal(size=(time, 4, 5, 3)) for time in (3, 6)]
    expected = model(padded(samples, 7, 0, rng))
    for padding in (np.nan, np.inf, "noise"):
        assert_close(model(padded(samples, 7, padding, rng)), expected)


def test_learns_and_survives_saving(model, tmp_path, rng):
    model = HighResNet.from_config(model.get_config())
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    inputs = padded([rng.normal(size=(3, 4, 4, 3))] * 2, 3, 0, rng)
    labels = rng.integers(0, 2, (2, 8, 8, 1)).astype("float32")
    losses = [model.train_on_batch(inputs, labels) for _ in range(8)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(inputs), model(inputs))


def test_number_of_parameters():
    """64 filters, one band, 3x: convolutions and their biases, and a slope for each of nine PReLUs."""
    model = HighResNet(bands=1, scale=3)
    convolution = 64 * 64 * 9 + 64
    encoder = (2 * 64 * 9 + 64) + 4 * convolution + convolution
    fusion = 2 * (128 * 128 * 9 + 128) + (128 * 64 * 9 + 64)
    decoder = convolution + 64 + 1
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == encoder + fusion + decoder + 9
