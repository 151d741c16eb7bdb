"""What every layer promises: values, masks, unknown sizes, mixed precision, configs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf import layers
from tests import reference
from tests.helpers import assert_close, randomize

F = 8  # features
OVER_FRAMES = {
    "attention": lambda **kw: layers.TemporalAttention(heads=2, **kw),
    "unit": lambda **kw: layers.EquivariantUnit(5, **kw),
    "tefa": lambda **kw: layers.TEFA(F, bottleneck=2, heads=4, **kw),
    "tern": lambda **kw: layers.TERN(F, kernel_size=3, **kw),
    "mean": lambda **kw: layers.TemporalMean(**kw),
    "norm": lambda **kw: layers.MaskedBatchNormalization(**kw),
    "normalization": lambda **kw: layers.ReflectanceNormalization(mean=[0.1] * F, std=[2.0] * F, **kw),
}
OVER_IMAGES = {
    "shuffle": lambda **kw: layers.PixelShuffle(2, **kw),
    "bilinear": lambda **kw: layers.BilinearUpsampling(3, **kw),
    "fusion": lambda **kw: layers.MultiResolutionFusion(8, **kw),
    "plain": lambda **kw: layers.PlainFusion(8, **kw),
    "normal": lambda **kw: layers.LogitNormal(**kw),
}
REFERENCES = {
    "attention": lambda batch, w, training: [reference.attention(x, w, heads=2) for x in batch],
    "unit": reference.unit,
    "tefa": lambda batch, w, training: reference.tefa(batch, w, training, heads=4),
    "tern": reference.tern,
    "mean": lambda batch, w, training: [x.mean(0) for x in batch],
    "norm": reference.norm,
    "normalization": lambda batch, w, training: [(x - 0.1) / 2 for x in batch],
    "shuffle": lambda batch, w, training: [reference.pixel_shuffle(x, 2) for x in batch],
    "bilinear": lambda batch, w, training: [reference.bilinear(x, 3) for x in batch],
    "fusion": reference.multi_resolution_fusion,
    "plain": reference.plain_fusion,
    "normal": lambda batch, w, training: [reference.logit_normal(x) for x in batch],
}
LENGTHS = (4, 1, 2)


def built(name, **kwargs):
    make = OVER_FRAMES.get(name) or OVER_IMAGES[name]
    layer = make(**kwargs)
    shape = (None, None, None, None, F) if name in OVER_FRAMES else (None, None, None, F)
    layer.build(shape)
    if name == "normalization":
        return layer
    return randomize(layer)


def series(rng, lengths=LENGTHS, padding=np.nan):
    samples = [rng.normal(size=(time, 5, 3, F)) for time in lengths]
    x = np.full((len(samples), max(lengths) + 1, 5, 3, F), padding, "float32")
    mask = np.zeros(x.shape[:2], bool)
    for n, sample in enumerate(samples):
        x[n, : len(sample)], mask[n, : len(sample)] = sample, True
    return samples, x, mask


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", OVER_FRAMES)
def test_over_frames_equals_the_reference_whatever_the_padding_holds(name, training, rng):
    layer = built(name)
    w = reference.weights_of(layer)
    samples, x, mask = series(rng)
    kwargs = {"training": training} if name in ("unit", "tefa", "tern", "norm") else {}
    y = np.asarray(layer(x, mask=mask, **kwargs))
    for n, expected in enumerate(REFERENCES[name](samples, w, training)):
        assert_close(y[n] if name == "mean" else y[n, : len(samples[n])], expected, 2e-5)


@pytest.mark.parametrize("padding", [np.nan, np.inf])
@pytest.mark.parametrize("name", [name for name in OVER_FRAMES if name != "norm"])
def test_padding_leaves_no_trace_in_the_gradients(name, padding, rng):
    layer = built(name)
    _, x, mask = series(rng, padding=0)

    def gradients(x):
        with tf.GradientTape() as tape:
            y = layer(x, mask=mask)
            y = y if name == "mean" else tf.where(mask[..., None, None, None], y, 0)
            loss = tf.reduce_sum(y**2)
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    clean = gradients(x)
    for gradient, expected in zip(gradients(np.where(mask[..., None, None, None], x, padding)), clean, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(8, 16), (5, 3), (1, 9)])
@pytest.mark.parametrize("name", OVER_IMAGES)
def test_over_images_equals_the_reference(name, size, training, rng):
    layer = built(name)
    w = reference.weights_of(layer)
    x = rng.normal(size=(2, *size, F))
    kwargs = {"training": training} if name in ("fusion", "plain") else {}
    y = np.asarray(layer(x.astype("float32"), **kwargs))
    for n, expected in enumerate(REFERENCES[name](list(x), w, training)):
        assert_close(y[n], expected, 5e-5)


@pytest.mark.parametrize("name", [*OVER_FRAMES, *OVER_IMAGES])
def test_one_graph_serves_every_size(name, rng):
    layer = built(name)
    if name in OVER_FRAMES:
        signature = [tf.TensorSpec((None, None, None, None, F)), tf.TensorSpec((None, None), tf.bool)]
        graph = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
        batches = [series(rng, lengths, padding=0)[1:] for lengths in ((1,), (3, 2))]
        eager = [layer(x, mask=mask) for x, mask in batches]
    else:
        graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, F))])
        batches = [[rng.normal(size=size).astype("float32")] for size in ((1, 3, 7, F), (2, 8, 8, F))]
        eager = [layer(x) for (x,) in batches]
    for batch, expected in zip(batches, eager, strict=True):
        np.testing.assert_allclose(graph(*batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*OVER_FRAMES, *OVER_IMAGES])
def test_mixed_precision_stays_close_to_float32(name, rng):
    full, mixed = built(name), built(name, dtype="mixed_bfloat16")
    for source, target in zip(full.weights, mixed.weights, strict=True):
        target.assign(source)
    assert all(w.dtype == "float32" for w in mixed.weights)
    x = rng.normal(size=(2, 3, 8, 8, F) if name in OVER_FRAMES else (2, 16, 24, F)).astype("float32")
    y, expected = mixed(x), np.asarray(full(x))
    assert y.dtype == ("float32" if name in ("normalization", "fusion", "plain", "normal") else "bfloat16")
    error = np.abs(np.asarray(keras.ops.cast(y, "float32")) - expected)
    assert error.max() < 0.1 * expected.std()
    assert error.mean() < 0.01 * expected.std()


@pytest.mark.parametrize("name", [*OVER_FRAMES, *OVER_IMAGES])
def test_survives_a_config_round_trip(name):
    layer = built(name, dtype="mixed_bfloat16")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert [(w.path, w.shape) for w in again.weights] == [(w.path, w.shape) for w in layer.weights]


def test_attention_scores_are_shares_of_the_real_frames(rng):
    _, x, mask = series(rng)
    _, scores = built("attention")(x, mask=mask, return_attention_scores=True)
    scores = np.asarray(scores)
    assert scores.shape == (3, 15, 5, 5)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)
    for n, length in enumerate(LENGTHS):
        assert (scores[n, ..., length:] == 0).all()


@pytest.mark.parametrize("name", OVER_FRAMES)
def test_a_sample_without_real_frames_harms_no_other(name, rng):
    layer = built(name)
    _, x, mask = series(rng)
    mask[1] = False
    y = np.asarray(layer(x, mask=mask))
    alone = np.asarray(layer(x[[0, 2]], mask=mask[[0, 2]]))
    valid = np.ones(3, bool) if name == "mean" else mask
    assert np.isfinite(y[valid]).all()
    for n, m in ((0, 0), (2, 1)):
        real = ... if name == "mean" else slice(LENGTHS[n])
        np.testing.assert_allclose(y[n][real], alone[m][real], rtol=0, atol=1e-5)


def test_norm_updates_moving_statistics_from_real_frames_alone(rng):
    layer = layers.MaskedBatchNormalization()
    samples, x, mask = series(rng)
    layer(x, mask=mask, training=True)
    pixels = np.concatenate([sample.reshape(-1, F) for sample in samples])
    np.testing.assert_allclose(layer.moving_mean, 0.1 * pixels.mean(0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * pixels.var(0, ddof=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("masked", "axes"), [(True, 5), (False, 5), (True, 4), (False, 4)])
def test_norms_gradient_is_that_of_normalising_the_real_alone(masked, axes, rng):
    layer = built("norm")
    _, x, mask = series(rng)
    x = np.where(mask[..., None, None, None], 3 * x + 7, 5).astype("float32")
    if axes == 4:
        x, mask = x[:, 0], np.array([True, False, True])
    real = mask if masked else np.ones_like(mask)
    target = rng.normal(size=x.shape).astype("float32")

    def gradient(normalised):
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_sum(tf.boolean_mask(normalised(given) * target, real))
        return tape.gradient(loss, given).numpy()

    def alone(given):
        mean, variance = tf.nn.moments(tf.boolean_mask(given, real), tuple(range(axes - real.ndim)))
        return (given - mean) * tf.math.rsqrt(variance + 1e-5) * layer.gamma + layer.beta

    found = gradient(lambda given: layer(given, mask=mask if masked else None, training=True))
    assert_close(found, gradient(alone), 1e-5)
    assert not np.any(found[~real])
    assert np.abs(found[real]).max() > 0.1


@pytest.mark.parametrize("name", ["fusion", "plain"])
def test_fusion_takes_statistics_from_the_samples_that_count(name, rng):
    layer, alone = built(name), built(name)
    x = rng.normal(size=(3, 8, 6, F)).astype("float32")
    x[1] = 1e3
    real = [0, 2]
    y = layer(x, mask=np.array([True, False, True]), training=True)
    assert_close(np.asarray(y)[real], alone(x[real], training=True), 1e-5)
    for w, expected in zip(layer.weights, alone.weights, strict=True):
        np.testing.assert_allclose(w, expected, rtol=1e-5, atol=1e-6)


def test_norm_keeps_its_statistics_when_a_batch_is_nothing_but_padding(rng):
    layer = built("norm")
    before = [np.array(w) for w in layer.weights]
    _, x, mask = series(rng)
    y = layer(np.zeros_like(x), mask=np.zeros_like(mask), training=True)
    assert np.isfinite(y).all()
    for w, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(w, value)


def test_plain_fusion_has_as_many_parameters_as_fusion():
    for filters in (8, 16, 48):
        fusion, plain = layers.MultiResolutionFusion(filters), layers.PlainFusion(filters)
        fusion.build((None, None, None, filters))
        plain.build((None, None, None, filters))
        counts = [sum(np.prod(w.shape) for w in layer.trainable_weights) for layer in (fusion, plain)]
        assert abs(counts[1] / counts[0] - 1) < 0.05
    assert plain.width == 226


@pytest.mark.parametrize(
    ("make", "features", "message"),
    [
        (lambda: layers.TemporalAttention(heads=4), 6, "4 heads divide. Received: 6"),
        (lambda: layers.TEFA(8, 2), 6, "Expected 8 features. Received: 6"),
        (lambda: layers.TERN(8), 6, "Expected 8 features. Received: 6"),
        (lambda: layers.PixelShuffle(2), 6, "multiple of 4 features. Received: 6"),
        (lambda: layers.ReflectanceNormalization(mean=[0.0] * 5), 6, "Expected 6 means, one per band. Received: 5"),
        (lambda: layers.ReflectanceNormalization(std=[0.0]), 1, "positive"),
    ],
)
def test_misfits_are_named(make, features, message):
    with pytest.raises(ValueError, match=message):
        make().build((None, None, None, None, features))
