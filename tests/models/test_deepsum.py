"""DeepSUM: frames are moved onto the first one, and time is reduced to one step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf import DeepSUM
from spinet_tf.models.deepsum import FILTER_SIDE, ReflectConvolution, RegisteredFrames, RegistrationFilters
from tests.helpers import assert_close, randomize


def series(rng, frames=5, bands=2):
    images = rng.normal(size=(2, frames, 4, 5, bands)).astype("float32")
    return {"images": images, "frame_mask": np.ones((2, frames), bool)}


@pytest.fixture(scope="module")
def model():
    return randomize(DeepSUM(bands=2, filters=4, layers=2, frames=5))


def test_registers_a_known_shift(rng):
    """Filters with one weight move every frame but the first, and move it back to where the first one is."""
    first = rng.normal(size=(1, 1, 20, 22, 2)).astype("float32")
    down, right = 3, -2
    moved = np.roll(first, (down, right), axis=(2, 3))
    x = np.concatenate([first, moved, moved], axis=1)
    registration = RegistrationFilters(4)
    registration.build(x.shape)
    randomize(registration)
    kernel, bias = registration.proposal.convolution.weights
    kernel.assign(np.zeros(kernel.shape))
    logits = np.full((FILTER_SIDE, FILTER_SIDE), -50.0)
    logits[FILTER_SIDE // 2 + down, FILTER_SIDE // 2 + right] = 50
    bias.assign(logits.ravel())
    kernels = registration(x)
    np.testing.assert_allclose(np.sum(kernels, axis=-1), 1, rtol=1e-6)
    registered = np.asarray(RegisteredFrames()(x, kernels))
    assert_close(registered[:, 0], first[:, 0])
    # Rolled rows and columns come from the other side.
    inside = np.s_[:, :, 4:-4, 4:-4]
    assert_close(registered[inside], np.repeat(first, 3, axis=1)[inside])


def test_filters_are_applied_as_an_independent_computation_says(rng):
    x = rng.normal(size=(1, 2, 6, 7, 3)).astype("float32")
    kernels = rng.uniform(size=(1, 2, 81)).astype("float32")
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9), axis=(2, 3))
    expected = np.einsum("bthwfij,btij->bthwf", windows, kernels.reshape(1, 2, 9, 9))
    assert_close(RegisteredFrames()(x, kernels), expected, 1e-5)


def test_padding_frames_are_filled_with_the_first_real_one(rng):
    x = rng.normal(size=(2, 4, 6, 7, 3)).astype("float32")
    kernels = rng.uniform(size=(2, 4, 81)).astype("float32")
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)
    plain, filled = (np.asarray(RegisteredFrames()(x, kernels, mask=m)) for m in (None, mask))
    np.testing.assert_array_equal(filled[mask], plain[mask])
    np.testing.assert_array_equal(filled[0, 2:], plain[0, [0, 0]])
    np.testing.assert_array_equal(filled[1, [0, 3]], plain[1, [1, 1]])


def test_features_are_normalised_over_the_pixels_of_each_frame(rng):
    layer = ReflectConvolution(3)
    x = rng.normal(size=(2, 4, 8, 9, 2)).astype("float32") * np.arange(1, 5)[:, None, None, None]
    y = np.asarray(layer(x))
    # Undo the leaky ReLU.
    y = np.where(y < 0, y / 0.2, y)
    np.testing.assert_allclose(y.mean((2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((2, 3)), 1, atol=1e-2)


@pytest.mark.parametrize("frames", [3, 5, 9])
def test_time_is_reduced_to_one_step(frames):
    model = DeepSUM(bands=1, scale=2, filters=2, layers=1, frames=frames)
    lengths = [model.get_layer(f"fusion_{n}").output.shape[1] for n in range((frames - 1) // 2)]
    assert lengths == list(range(frames - 2, 0, -2))


def test_the_mean_of_the_moved_frames_is_added(model, rng):
    inputs = series(rng)
    before = np.asarray(model(inputs))
    (weight,) = model.get_layer("mean_projection").weights
    mean = keras.Model(model.input, model.get_layer("mean_frame").output)(inputs)
    change = rng.normal(size=weight.shape)
    weight.assign_add(change)
    after = np.asarray(model(inputs))
    weight.assign_sub(change)
    assert_close(after - before, np.asarray(mean) @ change[0, 0], 1e-4)


def test_the_first_frame_is_the_reference(model, rng):
    inputs = series(rng)
    logits = np.asarray(model(inputs))
    for order in ([1, 0, 2, 3, 4], [0, 2, 1, 3, 4]):
        assert np.abs(model({**inputs, "images": inputs["images"][:, order]}) - logits).max() > 1e-3
    # What the first frame shows decides how the others are moved, and not the other way round.
    kernels = keras.Model(model.input, model.get_layer("registration").output)
    other = {**inputs, "images": inputs["images"].copy()}
    other["images"][:, 2] += rng.normal(size=other["images"][:, 2].shape)
    changed = np.abs(kernels(other) - kernels(inputs)).max((0, 2)) > 1e-6
    assert changed.tolist() == [False, False, True, False, False]
    other["images"][:, 0] += rng.normal(size=other["images"][:, 0].shape)
    changed = np.abs(kernels(other) - kernels(inputs)).max((0, 2)) > 1e-6
    assert changed.tolist() == [False, True, True, True, True]


def test_what_padding_holds_changes_nothing(model, rng):
    inputs = series(rng)
    inputs["frame_mask"][:, 3:] = False
    zeros, nans = inputs["images"].copy(), inputs["images"].copy()
    zeros[:, 3:], nans[:, 3:] = 0, np.nan
    np.testing.assert_array_equal(model({**inputs, "images": nans}), model({**inputs, "images": zeros}))


def test_learns_and_survives_saving(tmp_path, rng):
    model = DeepSUM(bands=2, filters=2, layers=1, frames=3)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    inputs, labels = series(rng, frames=3), rng.integers(0, 2, (2, 16, 20, 1)).astype("float32")
    losses = [model.train_on_batch(inputs, labels) for _ in range(5)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(inputs), model(inputs))


def test_number_of_parameters():
    def convolution(inputs, outputs, taps):
        return inputs * outputs * taps + outputs

    norm = 2 * 64
    features = convolution(12, 64, 9) + 7 * convolution(64, 64, 9) + 8 * norm
    registration = convolution(128, 128, 9) + convolution(128, 64, 9) + 2 * convolution(64, 64, 9)
    registration += convolution(64, 81, 9)
    fusion = 4 * (convolution(64, 64, 27) + norm) + convolution(64, 1, 1) + 12
    model = DeepSUM()
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == features + registration + fusion


@pytest.mark.parametrize("frames", [1, 4])
def test_frames_must_be_odd(frames):
    with pytest.raises(ValueError, match=f"odd number of frames, at least 3. Received: {frames}"):
        DeepSUM(frames=frames)


def test_the_number_of_frames_is_fixed(model, rng):
    with pytest.raises(ValueError, match=r"expected shape=\(None, 5\), found shape=\(2, 6\)"):
        model(series(rng, frames=6))


def test_half_precision_learns_as_single_does(rng):
    """On CPUs with AMX, TensorFlow 2.21 computes the gradient of such a convolution wrongly, or ends the process."""
    x = rng.normal(size=(2, 9, 96, 96, 8)).astype("float32")
    single, half = (ReflectConvolution(8, taps=3, dtype=dtype) for dtype in ("float32", "mixed_bfloat16"))
    for layer in (single, half):
        layer.build(x.shape)
    half.set_weights(single.get_weights())
    expected, found = (weight_gradient(layer, x) for layer in (single, half))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.std(expected))


def weight_gradient(layer, x):
    """The gradient of a loss by the convolution's kernel."""
    target = np.random.default_rng(0).normal(size=(2, 7, 96, 96, 8)).astype("float32")
    kernel = layer.convolution.kernel
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(target * tf.cast(layer(x), "float32"))
    return tape.gradient(loss, kernel.value).numpy()
