"""Every layer against the numbers of the authors' own code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf.interop import load_piunet_weights, piunet_variables, to_keras
from spinet_tf.layers import TEFA, TERN, BilinearUpsampling, PixelShuffle, TemporalAttention
from spinet_tf.layers.frames import leaky_relu, per_frame
from tests.helpers import assert_close


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def from_sequence(x, like):
    """(time, batch * height * width, features) -> (batch, time, height, width, features)."""
    batch, _, height, width, features = like.shape
    return np.moveaxis(x.reshape(-1, batch, height, width, features), 0, 1)


def weights(golden):
    return {name[2:]: array for name, array in golden.items() if name.startswith("w/")}


def loaded(layer, golden):
    layer.build(channels_last(golden["x"]).shape)
    load_piunet_weights(layer, weights(golden))
    return layer


@pytest.mark.parametrize("name", ["mha_f12_h1", "mha_f12_h3"])
def test_temporal_attention(goldens, name):
    golden = goldens(name)
    x = channels_last(golden["x"])
    layer = loaded(TemporalAttention(int(golden["cfg/num_heads"])), golden)
    y, attention = layer(x, return_attention_scores=True)
    assert_close(y, channels_last(golden["y_f64"]), 1e-5)
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    assert_close(np.reshape(attention, (pixels, *attention.shape[2:])), golden["i/attn_weights"])
    assert_close(y, from_sequence(golden["i/attn_seq"], x))


@pytest.mark.parametrize("name", ["tefa_f12", "tefa_f48"])
def test_tefa(goldens, name):
    golden = goldens(name)
    x = channels_last(golden["x"])
    layer = loaded(TEFA(int(golden["cfg/N_feat"]), int(golden["cfg/bottleneck"])), golden)
    assert_close(layer(x), channels_last(golden["y_f64"]))
    assert_close(layer(x[:, golden["perm"]]), channels_last(golden["y_perm"]))


def test_tefa_step_by_step(goldens):
    golden = goldens("tefa_f12")
    layer = loaded(TEFA(12, 4), golden)
    x = channels_last(golden["x"])

    def expect(tensor, name):
        assert_close(tensor, channels_last(golden[f"i/{name}"]))

    y = x
    for number, unit, norm_in, norm_out in ((0, layer.unit_1, "norm00", "norm0"), (1, layer.unit_2, "norm11", "norm1")):
        expect(y := per_frame(unit.convolution, y), f"conv{number}")
        expect(y := unit.norm_in(y), norm_in)
        y = leaky_relu(y)
        if number == 0:
            assert_close(y, from_sequence(golden["i/tran0_in"], y))
        attended, attention = unit.attention(y, return_attention_scores=True)
        assert_close(attended, from_sequence(golden[f"i/tran{number}_out"], y))
        if number == 0:
            assert_close(np.reshape(attention, golden["i/tran0_attn"].shape), golden["i/tran0_attn"])
        expect(y := unit.norm_out(y + attended), norm_out)
        if number == 0:
            y = leaky_relu(y)
    pooled = np.mean(y, axis=(1, 2, 3))
    assert_close(pooled, golden["i/lin0_in"])
    assert_close(layer.excite(leaky_relu(layer.squeeze(pooled))), golden["i/lin1_out"])


def test_tefa_in_training(goldens):
    golden = goldens("tefa_train_f12")
    layer = loaded(TEFA(12, 4), golden)
    x = tf.constant(channels_last(golden["x"]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * channels_last(golden["loss_weight"]))
    assert_close(y, channels_last(golden["y"]))
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-4)

    for name, variable in piunet_variables(layer):
        if "running" in name:
            np.testing.assert_allclose(variable, golden[f"w_after/{name}"], rtol=0, atol=1e-6, err_msg=name)

    names, variables = zip(*((n, v) for n, v in piunet_variables(layer) if v.trainable), strict=True)
    x_gradient, gradients = tape.gradient(loss, [x, [v.value for v in variables]])
    assert_close(x_gradient, channels_last(golden["gx"]))
    for name, gradient in zip(names, gradients, strict=True):
        expected = to_keras(golden[f"g/{name}"])
        # Some gradients are zero but for rounding: those of a bias that a BN takes away again.
        atol = max(1e-4 * expected.std(), 1e-3)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", ["tern_f12", "tern_f48"])
def test_tern(goldens, name):
    golden = goldens(name)
    x = channels_last(golden["x"])
    layer = loaded(TERN(int(golden["cfg/N_feat"])), golden)
    assert_close(layer(x), channels_last(golden["y_f64"]))
    assert_close(layer(x[:, golden["perm"]]), channels_last(golden["y_perm"]))
    assert_close(layer.propose_kernels(x), np.moveaxis(golden["i/kernels"], 1, 2))

    y = per_frame(layer.unit.convolution, x)
    assert_close(y, channels_last(golden["i/conv0"]))
    y = layer.unit.norm_in(y)
    assert_close(y, channels_last(golden["i/norm00"]))
    attended = layer.unit.attention(leaky_relu(y))
    assert_close(attended, from_sequence(golden["i/tran0_out"], x))
    y = layer.unit.norm_out(leaky_relu(y) + attended)
    assert_close(y, channels_last(golden["i/norm0"]))
    assert_close(np.mean(leaky_relu(y), axis=(2, 3)), np.moveaxis(golden["i/conv1_in"], 1, 2))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", ["", "ramp_"])
def test_pixel_shuffle(goldens, scale, kind):
    golden = goldens("pixel_shuffle")
    y = PixelShuffle(scale)(channels_last(golden[f"{kind}x_{scale}"]))
    np.testing.assert_array_equal(y, channels_last(golden[f"{kind}y_{scale}"]))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_bilinear_upsampling(goldens, scale):
    golden = goldens("bilinear_upsample")
    y = BilinearUpsampling(scale)(channels_last(golden["x"]))
    assert_close(y, channels_last(golden[f"y_{scale}_f64"]), 1e-5)
    assert_close(y, channels_last(golden[f"y_{scale}"]), 1e-5)


def test_the_goldens_hold_under_mixed_precision(goldens):
    """bfloat16 keeps between two and three digits."""
    golden = goldens("tefa_f12")
    layer = loaded(TEFA(12, 4, dtype=keras.DTypePolicy("mixed_bfloat16")), golden)
    y = layer(channels_last(golden["x"]))
    assert y.dtype == "bfloat16"
    expected = channels_last(golden["y_f64"])
    error = np.asarray(keras.ops.cast(y, "float32")) - expected
    assert np.abs(error).max() < 0.1 * expected.std()
    assert error.std() < 0.01 * expected.std()
