"""The temperature is the one that labels were drawn with, and becomes part of the model."""

import re

import keras
import numpy as np
import pytest
import xarray as xr
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss

from spinet_tf import PIUnet, SPInet
from spinet_tf.errors import SpinetError
from tests.helpers import padded, randomize
from training.calibrate import divide_logits, fit_temperature, gather_logits, main
from training.config import Config, save_config
from training.uncertainty_scores import BINS


def drawn(rng, temperature, pixels=20000):
    """Labels drawn from logits, and probabilities that are too sure by `temperature`; some unknown, some not seen."""
    z = rng.normal(0, 2, pixels)
    label = (rng.random(pixels) < expit(z)).astype("uint8")
    probability = expit(temperature * z).astype("float32")
    label[:100], probability[100:200] = 255, np.nan
    return label, probability


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_is_found_that_labels_were_drawn_with(rng, temperature):
    first, second = drawn(rng, temperature), drawn(rng, temperature)
    logits = gather_logits([first, second])
    assert logits.counts.sum() == 2 * (20000 - 200)
    found = fit_temperature(logits)
    assert found == pytest.approx(temperature, rel=0.05)
    assert logits.ece(found) < 0.015 < logits.ece(1.0)
    assert logits.nll(found) < min(logits.nll(0.97 * found), logits.nll(1.03 * found))


def test_figures_equal_an_independent_computation(rng):
    label, probability = drawn(rng, 2.0)
    logits = gather_logits([(label, probability)])
    known = (label != 255) & np.isfinite(probability)
    for temperature in (1.0, 2.5):
        z = np.log(probability[known].astype("float64")) - np.log1p(-probability[known].astype("float64"))
        p, cultivated = expit(z / temperature), label[known]
        assert logits.nll(temperature) == pytest.approx(log_loss(cultivated, p), rel=1e-4)
        assert logits.brier(temperature) == pytest.approx(brier_score_loss(cultivated, p), rel=1e-4)
        number = (p * BINS).astype(int)
        gaps = [abs(np.sum(cultivated[number == n] - p[number == n])) for n in range(BINS)]
        # Pixels at the limits of the 15 intervals may lie on either side.
        assert logits.ece(temperature) == pytest.approx(sum(gaps) / p.size, abs=2e-4)


@pytest.mark.parametrize("arguments", [{}, {"uncertainty": True}, {"fusion": "plain", "uncertainty": True}])
def test_logits_are_divided_exactly_and_deviations_stay(arguments, rng):
    model = randomize(SPInet(bands=2, scale=2, filters=8, tefa_blocks=0, bottleneck=2, **arguments))
    inputs = padded([rng.normal(size=(2, 4, 5, 2))], 2, 0, rng)
    before = np.asarray(model(inputs))
    divide_logits(model, 2.5)
    after = np.asarray(model(inputs))
    np.testing.assert_allclose(after[..., 0], before[..., 0] / 2.5, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(after[..., 1:], before[..., 1:])


def test_what_has_no_temperature():
    label, right = np.array([0, 1], "uint8"), np.array([0.1, 0.9])
    for probability in (right, 1 - right):
        with pytest.raises(SpinetError, match="never wrong on these scenes, or right by chance"):
            fit_temperature(gather_logits([(label, probability)]))
    with pytest.raises(SpinetError, match=r"both classes.* 0 cultivated pixels and 2 others"):
        gather_logits([(np.zeros(2, "uint8"), right)])
    with pytest.raises(SpinetError, match="0 cultivated pixels and 0 others"):
        gather_logits([(label, np.full(2, np.nan))])


def test_the_command_writes_a_model_that_answers_by_the_temperature(scenes, tmp_path, rng, capsys, monkeypatch):
    bands = ("B02", "B04", "B08")
    statistics = {"mean": [0.1] * 3, "std": [0.1] * 3}
    model = randomize(SPInet(bands, filters=8, tefa_blocks=0, bottleneck=2, fusion="plain", **statistics))
    model.save(tmp_path / "best.keras")
    save_config(Config(bands=bands, validation_scenes=2), tmp_path / "config.yaml")
    arguments = [str(tmp_path / "best.keras"), str(scenes), "--output", str(tmp_path / "calibrated.keras")]

    def noisy_truth(engine, scene, frames, max_cloud):
        assert (frames, max_cloud) == ("all", 0.25)
        label = scene["label"]
        return xr.Dataset({"probability": label.copy(data=expit(rng.normal(np.where(label == 1, 3, -3), 5)))})

    monkeypatch.setattr("training.calibrate.predict_scene", noisy_truth)
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "1 scene trains, eopatch-1, eopatch-2 validate" in out
    (_, after) = [line.split() for line in out.splitlines() if len(re.findall(r"\d\.\d{4}", line)) == 4]
    temperature = float(after[0])
    again = keras.models.load_model(tmp_path / "calibrated.keras", compile=False)
    inputs = padded([rng.normal(size=(2, 4, 5, 3))], 2, 0, rng)
    ratio = np.asarray(model(inputs)) / np.asarray(again(inputs))
    np.testing.assert_allclose(ratio, temperature, rtol=1e-3)
    assert again.band_names == bands

    assert main(arguments) == 1
    assert "Expected a new .keras file" in capsys.readouterr().err
    PIUnet(filters=4, tefa_blocks=0, bottleneck=2).save(tmp_path / "piunet.keras")
    assert main([str(tmp_path / "piunet.keras"), *arguments[1:3], str(tmp_path / "new.keras")]) == 1
    assert "Expected a SPInet to calibrate" in capsys.readouterr().err
