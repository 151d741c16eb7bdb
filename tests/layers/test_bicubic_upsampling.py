"""Bicubic upsampling is PIL's, edges included."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from spinet_tf.layers import BicubicUpsampling


@pytest.mark.parametrize(("height", "width", "scale"), [(7, 5, 4), (1, 3, 4), (2, 2, 3), (6, 9, 2)])
def test_equals_pil(height, width, scale, rng):
    x = rng.normal(size=(2, height, width, 3)).astype("float32")
    layer = BicubicUpsampling(scale)
    graph = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec((None, None, None, 3))])
    expected = np.empty((2, scale * height, scale * width, 3))
    for n, c in np.ndindex(2, 3):
        image = Image.fromarray(x[n, :, :, c]).resize((scale * width, scale * height), Image.Resampling.BICUBIC)
        expected[n, :, :, c] = np.asarray(image)
    np.testing.assert_allclose(graph(x), expected, rtol=0, atol=2e-6)
