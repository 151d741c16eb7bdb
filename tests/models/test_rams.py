"""RAMS: the authors' numbers, and the properties that mark it."""

import keras
import numpy as np
import pytest

from spinet_tf import RAMS
from spinet_tf.interop import load_rams_weights
from spinet_tf.models.rams import FeatureAttention, WeightNormConvolution
from tests.helpers import assert_close, randomize

# Of the authors' images, Proba-V.
MEAN, STD = 7433.6436, 2353.0723


def series(rng, frames=5, bands=2):
    images = rng.normal(size=(2, frames, 5, 6, bands)).astype("float32")
    return {"images": images, "frame_mask": np.ones((2, frames), bool)}


@pytest.fixture(scope="module")
def model():
    return randomize(RAMS(bands=2, scale=2, filters=4, blocks=1, squeeze=2, frames=5))


def test_equals_the_published_network(goldens):
    golden = goldens("rams_f8")
    model = RAMS(bands=1, scale=3, filters=8, blocks=2, squeeze=4, mean=[MEAN], std=[STD])
    load_rams_weights(model, {name[2:]: array for name, array in golden.items() if name.startswith("w/")})
    x = np.moveaxis(golden["x"], -1, 1)[..., None]
    y = np.asarray(model({"images": x, "frame_mask": np.ones(x.shape[:2], bool)}))
    assert_close(y * STD + MEAN, golden["y"])


@pytest.mark.parametrize("frames", [3, 5, 9])
def test_time_is_reduced_to_one_step(frames):
    model = RAMS(bands=1, scale=2, filters=4, blocks=1, squeeze=2, frames=frames)
    lengths = [model.get_layer("head").output.shape[1]]
    lengths += [model.get_layer(f"reduce_{n}").output.shape[1] for n in range((frames - 1) // 2 - 1)]
    lengths += [model.get_layer("up").output.shape[1]]
    assert lengths == list(range(frames, 0, -2))


def test_weight_normalisation_keeps_direction_and_length_apart(rng):
    layer = WeightNormConvolution(3, (3, 3))
    layer.build((None, None, None, 2))
    randomize(layer)
    x = rng.normal(size=(1, 6, 5, 2)).astype("float32")
    before = layer(x) - layer.bias
    layer.direction.assign(7 * layer.direction)
    assert_close(layer(x) - layer.bias, before)
    layer.length.assign(2 * layer.length)
    assert_close(layer(x) - layer.bias, 2 * before)
    kernel = np.array(layer.direction)
    kernel *= np.array(layer.length) / np.sqrt((kernel**2).sum((0, 1, 2)))
    plain = keras.layers.Conv2D(3, 3, padding="same")
    plain.build(x.shape)
    plain.set_weights([kernel, layer.bias])
    assert_close(layer(x), plain(x), 1e-5)


def test_the_gate_is_common_to_all_frames_and_pixels(rng):
    block = FeatureAttention(4, 2, rank=3)
    block.build((None, None, None, None, 4))
    randomize(block)
    x = rng.normal(size=(2, 3, 4, 5, 4)).astype("float32")
    y = np.asarray(block.convolution_2(block.convolution_1(x)))
    gate = (np.asarray(block(x)) - x) / y
    assert np.allclose(gate, gate[:, :1, :1, :1], atol=1e-3)
    assert ((gate > 0) & (gate < 1)).all()


def test_order_matters(model, rng):
    inputs = series(rng)
    shuffled = {**inputs, "images": inputs["images"][:, ::-1]}
    assert np.abs(model(inputs) - model(shuffled)).max() > 1e-2


def test_frames_that_are_not_real_are_taken_as_zeros(model, rng):
    inputs = series(rng)
    inputs["frame_mask"][:, 3:] = False
    zeros, nans = inputs["images"].copy(), inputs["images"].copy()
    zeros[:, 3:], nans[:, 3:] = 0, np.nan
    np.testing.assert_array_equal(model({**inputs, "images": nans}), model({**inputs, "images": zeros}))


def test_learns_and_survives_saving(model, tmp_path, rng):
    model = RAMS.from_config(model.get_config())
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    inputs, labels = series(rng), rng.integers(0, 2, (2, 10, 12, 1)).astype("float32")
    losses = [model.train_on_batch(inputs, labels) for _ in range(8)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(inputs), model(inputs))


def test_number_of_parameters():
    """A convolution has a direction, and a length and a bias per filter."""

    def size(inputs, outputs, taps):
        return inputs * outputs * taps + 2 * outputs

    def attention(features, hidden, taps):
        return 2 * size(features, features, taps) + size(features, hidden, 1) + size(hidden, features, 1)

    model = RAMS(bands=1, scale=3)
    main = size(1, 32, 27) + 12 * attention(32, 4, 27) + size(32, 32, 27)
    main += 3 * (attention(32, 4, 27) + size(32, 32, 27)) + size(32, 9, 27)
    branch = attention(9, 1, 9) + size(9, 9, 9)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == main + branch


@pytest.mark.parametrize("frames", [1, 4])
def test_frames_must_be_odd(frames):
    with pytest.raises(ValueError, match=f"odd number of frames, at least 3. Received: {frames}"):
        RAMS(frames=frames)
