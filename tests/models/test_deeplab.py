"""DeepLabv3: what goes into the library's network, and that it comes out of a file."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from spinet_tf import DeepLabV3, SpinetError
from tests.helpers import assert_close, graph, padded, randomize

pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def model():
    return randomize(DeepLabV3(bands=3, depth=10))


@pytest.fixture(scope="module")
def run(model):
    return graph(model)


def test_sees_the_bicubic_mean_of_the_real_frames(model, run, rng):
    samples = [rng.normal(size=(time, 5, 7, 3)) for time in (3, 1)]
    logits = run(padded(samples, 4, np.nan, rng))
    assert logits.shape == (2, 20, 28, 1)
    centre, spread = model.get_layer("normalization").weights
    for sample, answer in zip(samples, logits, strict=True):
        mean = ((sample - np.array(centre)) / np.array(spread)).mean(0).astype("float32")
        fine = [
            np.asarray(Image.fromarray(band).resize((28, 20), Image.Resampling.BICUBIC))
            for band in mean.T.swapaxes(1, 2)
        ]
        expected = model.get_layer("segmentation")(np.stack(fine, -1)[None])
        assert_close(answer, expected[0], 1e-3)


def test_odd_sizes_are_extended_at_their_edges_and_cropped(model, rng):
    segmentation = model.get_layer("segmentation")
    image = rng.normal(size=(1, 20, 28, 3)).astype("float32")
    extended = np.pad(image, ((0, 0), (0, 12), (0, 4), (0, 0)), mode="edge")
    assert_close(segmentation(image), segmentation(extended)[:, :20, :28])


def test_the_last_stack_is_dilated_instead_of_strided(model):
    network = model.get_layer("segmentation").network
    encoder = network.layers[1]
    dilated = {layer.name for layer in encoder.layers if getattr(layer, "dilation_rate", (1, 1)) != (1, 1)}
    assert dilated == {"stack3_block0_1_conv", "stack3_block0_2_conv"}
    features = encoder([np.zeros((1, 64, 32, 3), "float32")])
    assert {name: value.shape for name, value in features.items()} == {"P4": (1, 4, 2, 512)}
    assert network.layers[2].dilation_rates == [6, 12, 18]


def test_number_of_parameters():
    def norm(features):
        return 2 * features

    def convolution(inputs, outputs, taps):
        return inputs * outputs * taps + norm(outputs)

    # ResNet-18: of each stack but the first the first block has a shortcut of its own.
    resnet = convolution(12, 64, 49) + 4 * convolution(64, 64, 9)
    for before, width in ((64, 128), (128, 256), (256, 512)):
        resnet += convolution(before, width, 9) + 3 * convolution(width, width, 9) + convolution(before, width, 1)
    pyramid = 2 * convolution(512, 256, 1) + 3 * convolution(512, 256, 9) + convolution(5 * 256, 256, 1)
    model = DeepLabV3(depth=18)
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == resnet + pyramid + convolution(256, 256, 1) + 257


@pytest.mark.slow
def test_is_read_from_a_file_by_another_process(model, tmp_path):
    """Which has imported nothing but the package."""
    model.save(tmp_path / "model.keras")
    sums = [float(np.abs(weight).sum()) for weight in model.get_weights()]
    program = (
        "import keras, numpy, spinet_tf; model = keras.models.load_model('model.keras');"
        f"assert model.get_config() == {model.get_config()!r};"
        f"numpy.testing.assert_allclose([abs(w).sum() for w in model.get_weights()], {sums!r}, rtol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_without_keras_hub_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(SpinetError, match=r"pip install 'spinet-tf\[baselines\]'"):
        DeepLabV3(depth=10)


def test_only_known_depths():
    with pytest.raises(ValueError, match=r"depth out of 10, 18, 34, 50, 101\. Received: 12"):
        DeepLabV3(depth=12)
