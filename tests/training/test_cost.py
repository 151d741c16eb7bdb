"""Costs are counted as on paper, and counting changes nothing."""

import keras
import numpy as np
import pytest

import spinet_tf
from spinet_tf.metrics import MatthewsCorrelation
from training.checkpoint import weights_of
from training.cost import count_macs, measure_step


@pytest.fixture(scope="module")
def paper():
    return spinet_tf.SPInet()


def test_the_papers_backbone(paper):
    # The head's convolution; 34 more; projections and products of attention in 35 units; TERN; the gates.
    backbone = keras.Model(paper.input, paper.get_layer("temporal_mean").output)
    pixels = 20 * 32 * 32
    # Two projections of four are merged into the others, which takes products of weights only.
    merged = 35 * (2 * 48**2 * pixels - 2 * 49 * 48**2)
    assert (count_macs(backbone, 1, 20, 32) + merged) / 1e9 == pytest.approx(22.552, abs=5e-4)


def test_convolutions_and_attention_are_counted_by_hand():
    model = spinet_tf.SPInet(bands=3, filters=8, tefa_blocks=0, bottleneck=2, fusion="plain")
    head = keras.Model(model.input, model.get_layer("head").output)
    frames, pixels, filters = 5, 6 * 6, 8
    convolution = 9 * 3 * filters * frames * pixels
    attention = 2 * filters**2 * frames * pixels + 2 * frames**2 * filters * pixels
    # Kernels and biases, of query and key, of value and output.
    merging = 2 * (filters + 1) * filters**2
    assert count_macs(head, 2, frames, 6) == 2 * (convolution + attention) + merging


def test_a_measured_step_leaves_the_model_as_it_was():
    model = spinet_tf.SPInet(filters=8, tefa_blocks=0, bottleneck=2, fusion="plain")
    model.compile("adam", "binary_crossentropy", weighted_metrics=[MatthewsCorrelation(from_logits=True)])
    model.optimizer.build(model.trainable_variables)
    before = weights_of(model)
    cost = measure_step(model, 2, 3, 8, 4)
    assert 0 < cost.seconds < 60
    # A whole TensorFlow is in there, and no more than the machine has.
    assert 1e8 < cost.peak_bytes < 1e11
    for value, kept in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(value, kept)
