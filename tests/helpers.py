"""What several test files need."""

import numpy as np
import tensorflow as tf


def randomize(layer, seed=0):
    """Give every weight of a layer or model random values, moving statistics included, so that none hides."""
    rng = np.random.default_rng(seed)
    for w in layer.weights:
        if w.path.endswith(("moving_variance", "std")):
            values = rng.uniform(0.5, 2, w.shape)
        elif w.path.endswith("kernel"):
            values = rng.normal(0, 1.2 / np.sqrt(np.prod(w.shape[:-1])), w.shape)
        elif w.path.endswith("gamma"):
            values = rng.normal(1, 0.3, w.shape)
        else:
            values = rng.normal(0, 0.2, w.shape)
        w.assign(values)
    return layer


def assert_close(actual, expected, tolerance=1e-4):
    """Equal to `tolerance` of the expected values' standard deviation."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(expected.std(), 1e-6))


def padded(samples, length, padding, rng):
    """Series of different lengths as one batch: inputs of a model, with `padding` in the frames that are not real.

    Args:
        samples: list of (time, height, width, bands).
        length: frames of the batch.
        padding: a number, or "noise".
        rng: a NumPy generator.
    """
    images = np.empty((len(samples), length, *samples[0].shape[1:]), "float32")
    images[:] = rng.normal(size=images.shape) * 1e3 if padding == "noise" else padding
    mask = np.zeros((len(samples), length), bool)
    for n, sample in enumerate(samples):
        images[n, : len(sample)] = sample
        mask[n, : len(sample)] = True
    return {"images": images, "frame_mask": mask}


def graph(model, **call_arguments):
    """`model` as one graph for every batch, length, height and width."""
    bands = model.input["images"].shape[-1]
    signature = {
        "images": tf.TensorSpec((None, None, None, None, bands), tf.float32),
        "frame_mask": tf.TensorSpec((None, None), tf.bool),
    }
    function = tf.function(lambda inputs: model(inputs, **call_arguments), input_signature=[signature])
    return lambda inputs: np.asarray(function(inputs))
