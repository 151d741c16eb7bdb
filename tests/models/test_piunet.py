"""PIUnet: the authors' numbers, and what does not need them."""

import keras
import numpy as np
import pytest

from spinet_tf import PIUnet
from spinet_tf.interop import load_piunet_weights
from spinet_tf.layers.frames import leaky_relu, per_frame
from tests import reference
from tests.helpers import assert_close, graph, padded, randomize


@pytest.fixture(scope="module")
def golden(goldens):
    return goldens("piunet_f12")


@pytest.fixture(scope="module")
def published(golden):
    model = PIUnet(filters=12, tefa_blocks=2, bottleneck=4)
    load_piunet_weights(model, {name[2:]: array for name, array in golden.items() if name.startswith("w/")})
    return model


def last(x):
    return np.moveaxis(x, 1, -1)


def inputs(x):
    return {"images": x[..., None], "frame_mask": np.ones(x.shape[:2], bool)}


def test_equals_the_published_network(published, golden):
    y = graph(published)(inputs(golden["x"]))
    assert_close(y[..., :1], last(golden["mu_f64"]))
    assert_close(y[..., 1:], last(golden["sigma_f64"]))
    y = graph(published)(inputs(golden["x"][:, golden["perm"]]))
    assert_close(y[..., :1], last(golden["mu_perm"]))
    assert_close(y[..., 1:], last(golden["sigma_perm"]))


def test_equals_the_published_network_step_by_step(published, golden):
    names = {
        "norm0": "head",
        "res0": "tefa_1",
        "res1": "tefa_2",
        "regnet_in": "long_skip",
        "regnet": "tern",
        "temporal_mean": "temporal_mean",
        "conv_d2s_mu": "mean_convolution",
        "sigma_in": "scale_upsampling",
        "norm_sigma": "scale_norm",
    }
    outputs = {name: published.get_layer(layer).output for name, layer in names.items()}
    for name, y in keras.Model(published.inputs, outputs)(inputs(golden["x"])).items():
        assert_close(y, last(golden[f"i/{name}"]))
    for unit, x, convolution, norm_in, norm_out in (
        (published.get_layer("head"), golden["x"][..., None], "conv_in", "norm00", "norm0"),
        (published.get_layer("mid"), last(golden["i/res1"]), "conv_mid", None, "norm1"),
    ):
        y = per_frame(unit.convolution, x)
        assert_close(y, last(golden[f"i/{convolution}"]))
        y = unit.norm_in(y)
        if norm_in:
            assert_close(y, last(golden[f"i/{norm_in}"]))
        y = leaky_relu(y)
        attended = unit.attention(y)
        if norm_in:
            batch, time, height, width, features = y.shape
            sequence = golden["i/tran_in_out"].reshape(time, batch, height, width, features)
            assert_close(attended, np.moveaxis(sequence, 0, 1))
        assert_close(unit.norm_out(y + attended), last(golden[f"i/{norm_out}"]))


def test_equals_the_reference_on_ragged_series(rng):
    model = randomize(PIUnet(scale=2, filters=8, tefa_blocks=1, bottleneck=2))
    samples = [rng.normal(size=(time, 5, 7, 1)) for time in (3, 1)]
    y = np.asarray(model(padded(samples, 4, np.nan, rng)))
    for n, features in enumerate(reference.backbone(model, samples, batch_statistics=False)):
        baseline = reference.bilinear(samples[n].mean(0), 2)
        w = reference.weights_of(model.get_layer("mean_convolution"))
        residual = reference.pixel_shuffle(reference.convolution(features[None], w)[0], 2)
        assert_close(y[n, ..., :1], baseline + residual)


def test_number_of_parameters():
    model = PIUnet(filters=48, bottleneck=6)
    backbone = 1_059_193 - 11 * 48 * 9  # SPInet's, less eleven bands of the first convolution
    mean, scale = 48 * 9 * 9 + 9, 48 * 48 * 9 + 48 + 2 * 48 + 48 + 1
    assert sum(w.value.numpy().size for w in model.trainable_weights) == backbone + mean + scale


def test_survives_a_config_round_trip():
    model = PIUnet(scale=2, filters=8, tefa_blocks=1, bottleneck=2, dtype="mixed_bfloat16")
    again = PIUnet.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def test_says_a_scale_of_one_until_it_is_trained(rng):
    y = PIUnet(scale=2, filters=8, tefa_blocks=1, bottleneck=2)(padded([rng.normal(size=(2, 5, 4, 1))], 2, 0, rng))
    np.testing.assert_array_equal(y[..., 1], 0)
    assert np.std(y[..., 0]) > 0
