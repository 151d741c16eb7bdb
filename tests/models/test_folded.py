"""The folded form computes what the model does."""

import keras
import numpy as np
import pytest
from keras import ops

from spinet_tf import PIUnet, SPInet
from spinet_tf.layers.frames import leaky_relu, masked_mean
from spinet_tf.layers.tern import apply_kernels
from spinet_tf.models.folded import folded
from tests.helpers import assert_close, padded, randomize

CONFIGURATIONS = [
    {"tefa_blocks": 2, "uncertainty": True},
    {"tefa_blocks": 1, "heads": 2, "fusion": "plain", "scale": 2},
]


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def model(request):
    statistics = {"mean": [0.3, 0.2, -0.1], "std": [2.0, 1.0, 0.5]}
    model = randomize(SPInet(bands=["B02", "B03", "B08"], filters=8, bottleneck=3, **statistics, **request.param))
    # One scale of every sign in each norm: no sign can be taken out of a leaky ReLU, and 0 not be divided by.
    for weight in model.weights:
        if weight.path.endswith("gamma") and "tefa_2" not in weight.path:
            gamma = keras.ops.convert_to_numpy(weight).copy()
            gamma[:2] = -gamma[0], 0
            weight.assign(gamma)
    return model


@pytest.fixture(scope="module")
def fast(model):
    return folded(model)


def test_it_keeps_what_users_ask_for(model, fast):
    assert fast.band_names == ("B02", "B03", "B08")
    assert fast.scale == model.scale
    assert not fast.trainable_weights


@pytest.mark.parametrize("shape", [(1, 1, 4, 3), (2, 3, 5, 7)])
def test_it_is_the_model(model, fast, rng, shape):
    inputs = {"images": rng.normal(size=(*shape, 3)).astype("float32"), "frame_mask": np.ones(shape[:2], bool)}
    assert_close(fast(inputs), model(inputs))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow")
def test_graphs_for_one_size_are_right_too(model, fast, rng):
    """Where sizes are fixed, TensorFlow fuses more, and did so wrongly."""
    import tensorflow as tf

    inputs = padded([rng.normal(size=(time, 7, 5, 3)) for time in (4, 2)], 4, np.nan, rng)
    images, mask = (tf.convert_to_tensor(inputs[name]) for name in ("images", "frame_mask"))
    graph = tf.function(lambda images, mask: fast({"images": images, "frame_mask": mask}))
    assert_close(graph(images, mask), model(inputs))


@pytest.mark.parametrize("padding", [np.nan, "noise"])
def test_padding_changes_nothing(model, fast, rng, padding):
    samples = [rng.normal(size=(time, 4, 5, 3)) for time in (2, 4)]
    batch = padded(samples, 5, padding, rng)
    assert_close(fast(batch), model(batch))
    alone = padded(samples[:1], 2, 0, rng)
    assert_close(fast(batch)[:1], fast(alone), 1e-5)


def test_a_sample_without_frames_has_the_models_answer(model, fast, rng):
    batch = padded([rng.normal(size=(2, 3, 3, 3)), np.zeros((0, 3, 3, 3))], 2, np.nan, rng)
    assert_close(fast(batch), model(batch))


def test_means_from_elsewhere_take_the_place_of_its_own(model, fast, rng):
    inputs = padded([rng.normal(size=(time, 4, 3, 3)) for time in (3, 2)], 3, 0, rng)
    mask = inputs["frame_mask"]
    nowhere = np.full((2, model.tefa_blocks, 8), np.nan, "float32"), np.full((2, 3, 8), np.nan, "float32")
    logits, *own = fast.call_with_means(inputs, *nowhere)
    assert_close(logits, fast(inputs), 1e-6)
    assert [tuple(means.shape) for means in own] == [means.shape for means in nowhere]

    # Of the first sample they are known, of the second not.
    x = rng.normal(size=(2, 3, 4, 3, 8)).astype("float32")
    tefa, tern = model.get_layer("tefa_1"), model.get_layer("tern")
    y = tefa.unit_2(leaky_relu(tefa.unit_1(x, mask=mask)), mask=mask)
    expected = masked_mean(ops.mean(y, axis=(2, 3)), mask)
    given = np.stack([rng.normal(size=8), np.full(8, np.nan)]).astype("float32")
    answer, own = fast.get_layer("tefa_1").call_with_mean(x, mask, given)
    assert_close(own, expected)
    gates = ops.sigmoid(tefa.excite(leaky_relu(tefa.squeeze(np.stack([given[0], expected[1]])))))
    assert_close(answer[mask], (x + y * ops.reshape(gates, (2, 1, 1, 1, 8)))[mask])

    expected = ops.mean(leaky_relu(tern.unit(x, mask=mask)), axis=(2, 3))
    given = np.concatenate([rng.normal(size=(1, 3, 8)), np.full((1, 3, 8), np.nan)]).astype("float32")
    answer, own = fast.get_layer("tern").call_with_means(x, mask, given)
    assert_close(own[mask], expected[mask])
    kernels = tern.proposal(np.stack([given[0], expected[1]]))
    assert_close(answer, masked_mean(apply_kernels(x, kernels), mask))


def test_in_bfloat16_it_is_close_to_the_trained_model(rng):
    model = SPInet.from_preset("tiny-simulated")
    bands = len(model.band_names)
    # Parcels of a few pixels whose reflectance changes over the year.
    images = np.repeat(np.repeat(rng.uniform(0.02, 0.5, (1, 8, 3, 4, bands)), 4, axis=2), 4, axis=3).astype("float32")
    inputs = {"images": images, "frame_mask": np.ones((1, 8), bool)}
    fast = folded(model, "bfloat16")
    assert fast.get_layer("tefa_1").compute_dtype == "bfloat16"
    assert_close(fast(inputs), model(inputs), 0.05)


def test_another_model_is_refused():
    with pytest.raises(TypeError, match=r"Expected a SPInet\. Received: PIUnet"):
        folded(PIUnet(filters=4, tefa_blocks=1, bottleneck=2))
