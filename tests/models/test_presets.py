"""The models that come with the package load, are small, and are what their cards say."""

import numpy as np
import pytest

from spinet_tf import SPInet
from spinet_tf.data import open_scene
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.inference import open_engine, predict_scene
from spinet_tf.models.presets import PRESETS, preset_path


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_small_and_has_its_card(name):
    path = preset_path(name)
    assert path.stat().st_size < 10e6
    card = path.with_name("README.md").read_text()
    model = SPInet.from_preset(name)
    assert f"{model.count_params():,} parameters" in card
    assert " ".join(model.band_names) in card


def test_the_tiny_one_tells_cultivated_land_on_a_simulated_scene(tmp_path):
    simulate_eopatch(tmp_path / "scene", seed=[77, 1], size=(48, 48), dates=24)
    scene = open_scene(tmp_path / "scene")
    probability = predict_scene(open_engine("tiny-simulated"), scene)["probability"].to_numpy()
    known = scene["label"].to_numpy() != 255
    label = scene["label"].to_numpy() == 1
    assert np.corrcoef(probability[known] > 0.5, label[known])[0, 1] > 0.7  # MCC


def test_another_name_is_refused():
    with pytest.raises(ValueError, match=r"Expected a preset of tiny-simulated. Received: 'large'"):
        SPInet.from_preset("large")
