"""SPInet against the paper's figures, an independent computation, and its own file."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import spinet_tf
from spinet_tf import SPInet
from spinet_tf.losses import LogitNormalCrossEntropy
from spinet_tf.metrics import MatthewsCorrelation
from tests import reference
from tests.helpers import assert_close, graph, padded, randomize


def trainable(layer):
    return sum(int(np.prod(w.shape)) for w in layer.trainable_weights)


def test_the_papers_network_has_the_papers_parts_and_sizes():
    model = SPInet()
    counts = {layer.name: trainable(layer) for layer in model.layers}
    backbone = {"head": 14_832, **{f"tefa_{n}": 61_398 for n in range(1, 17)}, "mid": 30_384, "tern": 31_609}
    assert {name: counts[name] for name in backbone} == backbone
    assert sum(backbone.values()) == 1_059_193
    assert counts["upsampling"] == 332_544
    assert counts["fusion"] == 558_913
    assert trainable(model) == 1_059_193 + 332_544 + 558_913
    assert abs(trainable(SPInet(fusion="plain").get_layer("fusion")) / counts["fusion"] - 1) < 0.05


def multiplications(function, *specs):
    """Multiply-accumulates of the convolutions and matrix products of a graph with static shapes."""
    total = 0
    for op in tf.function(function).get_concrete_function(*specs).graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative"):
            height, width, features = op.inputs[1].shape[:3]
            taps = height * width * (features if op.type == "Conv2D" else 1)
        elif op.type in ("MatMul", "BatchMatMulV2"):
            taps = op.inputs[0].shape[-1]
        else:
            continue
        total += op.outputs[0].shape.num_elements() * taps
    return total


def test_the_papers_backbone_costs_what_it_should():
    """22.55 GMAC for 20 frames of 32x32 pixels, 1.306 in each TEFA block, less two merged projections of four."""
    one = SPInet(tefa_blocks=1)
    backbone, tefa = keras.Model(one.input, one.get_layer("temporal_mean").output), one.get_layer("tefa_1")
    mask = tf.ones((1, 20), tf.bool)
    cost = multiplications(
        lambda x: backbone({"images": x, "frame_mask": mask}), tf.TensorSpec((1, 20, 32, 32, 12), tf.float32)
    )
    block = multiplications(tefa, tf.TensorSpec((1, 20, 32, 32, 48), tf.float32))
    merged = 2 * 48**2 * 20 * 32 * 32
    assert (block + 2 * merged) / 1e9 == pytest.approx(1.306, abs=1e-3)
    assert (cost + 15 * block + 35 * merged) / 1e9 == pytest.approx(22.55, abs=1e-2)


def test_summary_reads_like_the_paper():
    lines = []
    SPInet.named("small").summary(print_fn=lines.append)
    text = "\n".join(lines)
    parts = ("normalization", "head", "tefa_1", "tefa_2", "mid", "long_skip", "tern", "temporal_mean")
    parts += ("upsampling", "pixel_shuffle", "fusion")
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "arguments", [{}, {"fusion": "plain"}, {"uncertainty": True}, {"fusion": "plain", "uncertainty": True}]
)
def test_equals_the_reference(arguments, training, rng):
    model = SPInet(bands=3, scale=2, filters=8, tefa_blocks=2, bottleneck=2, heads=2, **arguments)
    randomize(model)
    samples = [rng.normal(size=(time, 5, 6, 3)) for time in (4, 1, 3)]
    expected = reference.spinet(model, samples, batch_statistics=training)
    assert_close(model(padded(samples, 6, np.nan, rng), training=training), expected, 2e-5)


def test_normalisation_is_part_of_the_model(rng):
    mean, std = rng.uniform(0, 0.4, 4), rng.uniform(0.1, 1, 4)
    sizes = {"bands": 4, "filters": 8, "tefa_blocks": 1, "bottleneck": 2}
    model, plain = SPInet(**sizes, mean=mean, std=std), SPInet(**sizes)
    plain.set_weights(plain.get_weights()[:2] + model.get_weights()[2:])
    x = rng.uniform(0, 0.5, (1, 2, 4, 4, 4)).astype("float32")
    mask = np.ones((1, 2), bool)
    expected = plain({"images": ((x - mean) / std).astype("float32"), "frame_mask": mask})
    assert_close(model({"images": x, "frame_mask": mask}), expected)
    assert SPInet.from_config(model.get_config()).get_layer("normalization").get_config()["std"] == list(std)


def test_mixed_precision_keeps_the_answer(rng):
    model = randomize(SPInet(filters=8, tefa_blocks=1, bottleneck=2))
    mixed = SPInet(filters=8, tefa_blocks=1, bottleneck=2, dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    inputs = padded([rng.normal(size=(3, 8, 16, 12))], 3, 0, rng)
    # With the batch's own statistics activations stay near unit size, as in a trained network.
    y, expected = mixed(inputs, training=True), np.asarray(model(inputs, training=True))
    assert y.dtype == "float32"
    assert np.abs(y - expected).mean() < 0.02 * expected.std()


def test_trains_with_model_fit(rng):
    model = SPInet(filters=8, tefa_blocks=1, bottleneck=2)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(from_logits=True))
    samples = [rng.normal(size=(time, 4, 4, 12)) for time in (3, 2, 3, 1)]
    inputs = padded(samples, 3, np.nan, rng)
    labels = (np.repeat(np.repeat(inputs["images"][:, 0, ..., :1], 4, 1), 4, 2) > 0).astype("float32")
    history = model.fit(inputs, labels, batch_size=4, epochs=15, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_the_uncertain_model_trains_with_model_fit(rng):
    model = SPInet(bands=2, scale=2, filters=8, tefa_blocks=0, bottleneck=2, fusion="plain", uncertainty=True)
    metric = MatthewsCorrelation(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), LogitNormalCrossEntropy(side=2), weighted_metrics=[metric])
    inputs = padded([rng.normal(size=(2, 4, 4, 2)) for _ in range(4)], 2, 0, rng)
    labels = (np.repeat(np.repeat(inputs["images"][:, 0, ..., :1], 2, 1), 2, 2) > 0).astype("uint8")
    history = model.fit(inputs, labels, batch_size=4, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["mcc"][-1] > history["mcc"][0]


LOAD = """
import sys, numpy as np, spinet_tf, keras
model = keras.models.load_model(sys.argv[1])
with np.load(sys.argv[2]) as inputs:
    np.save(sys.argv[3], np.asarray(model(dict(inputs))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_saved_model_loads_in_a_fresh_process(backend, tmp_path, rng, monkeypatch):
    if backend == "jax":
        pytest.importorskip("jax")
    model = randomize(SPInet(filters=8, tefa_blocks=1, bottleneck=2, mean=[0.1] * 12, std=[0.3] * 12))
    model.save(tmp_path / "model.keras")
    inputs = padded([rng.normal(size=(time, 5, 6, 12)) for time in (3, 2)], 4, np.inf, rng)
    np.savez(tmp_path / "inputs.npz", **inputs)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    paths = [str(tmp_path / name) for name in ("model.keras", "inputs.npz", "logits.npy")]
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", LOAD, *paths], check=True, timeout=300)
    logits, expected = np.load(tmp_path / "logits.npy"), np.asarray(model(inputs))
    if backend == "tensorflow":
        np.testing.assert_array_equal(logits, expected)
    else:
        assert_close(logits, expected, 1e-5)


def test_models_from_before_there_was_uncertainty_have_none():
    config = SPInet(filters=8, tefa_blocks=1, bottleneck=2).get_config()
    del config["uncertainty"]
    model = SPInet.from_config(config)
    assert not model.uncertainty
    assert model.output.shape[-1] == 1


def test_the_uncertain_model_is_itself_after_saving(tmp_path, rng):
    model = randomize(SPInet(filters=8, tefa_blocks=1, bottleneck=2, uncertainty=True))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    inputs = padded([rng.normal(size=(2, 3, 4, 12))], 2, 0, rng)
    np.testing.assert_array_equal(again(inputs), model(inputs))
    assert again.count_params() == SPInet(filters=8, tefa_blocks=1, bottleneck=2).count_params() + 4 * 8 + 1


@pytest.mark.parametrize("name", ["SPInet", "PIUnet", "HighResNet", "RAMS"])
def test_every_model_can_be_cloned(name):
    model = getattr(spinet_tf, name)(filters=8, dtype="mixed_bfloat16")
    again = keras.models.clone_model(model)
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


def test_one_graph_serves_every_size(tiny_spinet, rng):
    run = graph(tiny_spinet)
    for batch, time, height, width in ((1, 1, 1, 1), (2, 3, 5, 8), (1, 7, 6, 3)):
        inputs = padded([rng.normal(size=(time, height, width, 12))] * batch, time, 0, rng)
        y = run(inputs)
        assert y.shape == (batch, 4 * height, 4 * width, 1)
        np.testing.assert_allclose(y, tiny_spinet(inputs), rtol=0, atol=1e-5)


def test_bands_are_known_by_name():
    assert SPInet.named("small").band_names == spinet_tf.BANDS
    sizes = {"filters": 8, "tefa_blocks": 1, "bottleneck": 2}
    model = SPInet(bands=["B04", "B08"], **sizes)
    assert model.band_names == ("B04", "B08")
    assert SPInet.from_config(model.get_config()).band_names == ("B04", "B08")
    assert SPInet(bands=5, **sizes).band_names is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fusion": "none"}, r"one of \['multi_resolution', 'plain'\]. Received: 'none'"),
        ({"bands": ["B04", "B04"]}, "distinct band names"),
        ({"bands": "B04"}, "distinct band names in a list, or their number. Received: 'B04'"),
        ({"mean": [0.0]}, "Expected 12 means"),
        ({"filters": 7, "heads": 2}, "2 heads divide"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SPInet(**arguments)


@pytest.mark.parametrize("name", ["SPInet", "PIUnet", "HighResNet", "RAMS"])
def test_misspelt_arguments_are_refused(name):
    with pytest.raises(TypeError, match="filter"):
        getattr(spinet_tf, name)(filter=3)


def test_unknown_configuration_is_named():
    with pytest.raises(ValueError, match=r"\['paper', 'small'\]. Received: 'large'"):
        SPInet.named("large")
