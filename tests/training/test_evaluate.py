"""Scores of the network and of the baseline on what was held out, checked against scikit-learn."""

import json

import keras
import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

import spinet_tf
from spinet_tf.data import ai4eo, open_scene
from spinet_tf.models.ndvi import NDVIThresholds
from training.config import Config, save_config
from training.evaluate import main, ndvi_inputs
from training.split import Part
from training.train import main as train_main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder like that of a training run: a tiny SPInet, untrained, and its configuration."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(3)
    bands = ("B02", "B04", "B08")
    model = spinet_tf.SPInet(bands, filters=8, tefa_blocks=1, bottleneck=2, mean=[0.1] * 3, std=[0.1] * 3)
    model.save(folder / "best.keras")
    save_config(Config(bands=bands, patch=8, validation_scenes=2), folder / "config.yaml")
    return folder


def command(run, data, output, *more):
    return main(["--model", str(run / "best.keras"), "--data", str(data), "--output", str(output), *more])


def expected_scores(scene, cultivated):
    label, predicted = scene["label"].values.ravel(), cultivated.ravel()
    known = label != 255
    weight = ai4eo.weight_map(scene["label"].values == 1, scene["label"].values == 255).ravel()
    return {
        "mcc": pytest.approx(matthews_corrcoef(label[known], predicted[known]), abs=1e-9),
        "weighted_mcc": pytest.approx(matthews_corrcoef(label == 1, predicted, sample_weight=weight), abs=1e-9),
    }


@pytest.mark.slow
def test_scores_of_scenes_held_out(run, scenes, tmp_path, capsys):
    assert command(run, scenes, tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "scores.json").read_text())
    model = keras.models.load_model(run / "best.keras")
    baseline = NDVIThresholds().fit([ndvi_inputs(open_scene(scenes / "eopatch-0"))])
    assert summary["thresholds"]["ndvi"] == [baseline.low, baseline.high]
    assert [row["scene"] for row in summary["scenes"]] == ["eopatch-1", "eopatch-2"]
    for row in summary["scenes"]:
        scene = open_scene(scenes / row["scene"])
        probability = spinet_tf.predict_scene(model, scene)["probability"].values
        assert row["model"] == expected_scores(scene, probability > 0.5)
        assert row["ndvi"] == expected_scores(scene, baseline.predict(*ndvi_inputs(scene)[:3]))
    for system in ("model", "ndvi"):
        for name in ("mcc", "weighted_mcc"):
            mean = np.mean([row[system][name] for row in summary["scenes"]])
            assert summary["mean"][system][name] == pytest.approx(mean)

    printed, markdown = capsys.readouterr().out, (tmp_path / "out" / "scores.md").read_text()
    first = summary["scenes"][0]
    cells = [first["model"]["mcc"], first["ndvi"]["mcc"], first["model"]["weighted_mcc"], first["ndvi"]["weighted_mcc"]]
    assert "| eopatch-1 | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |" in markdown
    for text in (printed, markdown):
        assert "1 scene trains, eopatch-1, eopatch-2 validate" in text
        assert "every known pixel counting once" in text
    assert f"{cells[0]:.3f}" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "eopatch-1.png",
        "eopatch-2.png",
        "scores.json",
        "scores.md",
    ]


@pytest.mark.slow
def test_scores_of_the_lower_half(run, scenes, tmp_path):
    assert command(run, scenes / "eopatch-2", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "scores.json").read_text())
    (row,) = summary["scenes"]
    assert row["scene"] == "eopatch-2 (lower half)"
    assert (tmp_path / "out" / "eopatch-2-lower.png").is_file()
    upper, lower = (Part(scenes / "eopatch-2", half)() for half in ("upper", "lower"))
    baseline = NDVIThresholds().fit([ndvi_inputs(upper)])
    assert summary["thresholds"]["ndvi"] == [baseline.low, baseline.high]
    assert row["ndvi"] == expected_scores(lower, baseline.predict(*ndvi_inputs(lower)[:3]))
    # The map is made from the lower half alone: nothing of the upper one is seen.
    probability = spinet_tf.predict_scene(keras.models.load_model(run / "best.keras"), lower)["probability"].values
    assert row["model"] == expected_scores(lower, probability > 0.5)


def test_the_baseline_sees_march_to_august_where_it_can(scenes):
    scene = open_scene(scenes / "eopatch-0")
    dates = np.array([f"2019-{month:02}-15" for month in (1, 2, 3, 5, 8, 9, 11, 12)], "datetime64[ns]")
    scene = scene.isel(time=range(8)).assign_coords(time=dates)
    red, nir, valid, label = ndvi_inputs(scene)
    np.testing.assert_array_equal(red, scene["bands"].sel(band="B04").values[2:5])
    np.testing.assert_array_equal(nir, scene["bands"].sel(band="B08").values[2:5])
    np.testing.assert_array_equal(valid, scene["valid"].values[2:5])
    np.testing.assert_array_equal(label, scene["label"].values)
    assert len(ndvi_inputs(scene.drop_vars("time"))[0]) == 8
    assert len(ndvi_inputs(scene.isel(time=[0, 1, 5, 6]))[0]) == 4


def test_errors(run, scenes, tmp_path, capsys):
    def error_of(*arguments):
        assert command(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "not there" in error_of(tmp_path, scenes, tmp_path / "out")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "best.keras").write_bytes((run / "best.keras").read_bytes())
    assert "Pass --config" in error_of(alone, scenes, tmp_path / "out")
    assert "There is none at" in error_of(run, tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.json").write_text("mine")
    assert "scores.json exists already" in error_of(run, scenes, tmp_path / "out")
    assert (tmp_path / "out" / "scores.json").read_text() == "mine"
    (tmp_path / "file").write_text("")
    assert "Cannot write" in error_of(run, scenes, tmp_path / "file" / "out")


@pytest.mark.slow
def test_what_training_leaves_can_be_evaluated(scenes, tmp_path, capsys):
    """The whole way with the network itself, by the two commands."""
    config = tmp_path / "config.yaml"
    config.write_text("model: {filters: 8, tefa_blocks: 1, bottleneck: 2}\npatch: 8\nbatch: 2\nsteps: 2\nepochs: 1\n")
    arguments = ["--data", str(scenes), "--output"]
    assert train_main(["--config", str(config), *arguments, str(tmp_path / "run")]) == 0
    assert main(["--model", str(tmp_path / "run" / "best.keras"), *arguments, str(tmp_path / "out")]) == 0
    assert "Wrote " + str(tmp_path / "out" / "eopatch-2.png") in capsys.readouterr().out
