"""Training on small simulated scenes, from the command line to the files it leaves."""

import csv
import os
import signal

import keras
import pytest

from spinet_tf.data.scene import open_scene
from training.callbacks import Forecast
from training.config import load_config
from training.train import OUTPUTS, main

CONFIG = """
patch: 8
batch: 4
steps: 12
epochs: 3
learning_rate: 0.1
frame_count: 4
"""


@pytest.fixture
def command(tmp_path, scenes):
    """A function that runs the command with a configuration, by default on the three scenes."""

    def run(config=CONFIG, *more, data=scenes, output=tmp_path / "run"):
        path = tmp_path / "config.yaml"
        path.write_text(config)
        return main(["--config", str(path), "--data", str(data), "--output", str(output), *more])

    return run


@pytest.mark.usefixtures("pixel_model")
def test_a_run_leaves_models_logs_and_its_configuration(command, tmp_path, capsys):
    assert command() == 0
    output = tmp_path / "run"
    assert sorted(path.name for path in output.iterdir()) == sorted(OUTPUTS)
    assert load_config(output / "config.yaml") == load_config(tmp_path / "config.yaml")
    assert list((output / "tensorboard").rglob("events.*"))
    rows = list(csv.DictReader((output / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    best = max(float(row["val_mcc"]) for row in rows)
    printed = capsys.readouterr().out
    assert "Split: 2 scenes train, eopatch-2 validates" in printed
    assert "13 parameters" in printed
    assert "s a step: about" in printed
    assert f"validation MCC {best:.3f} after epoch" in printed
    for name in ("best.keras", "last.keras"):
        assert keras.models.load_model(output / name).count_params() == 13


@pytest.mark.usefixtures("pixel_model")
def test_a_run_repeats_with_its_seed(command, tmp_path):
    assert command(CONFIG, output=tmp_path / "first") == command(CONFIG, output=tmp_path / "second") == 0
    assert command(CONFIG + "seed: 1", output=tmp_path / "third") == 0
    first, second, third = ((tmp_path / name / "log.csv").read_text() for name in ("first", "second", "third"))
    assert first == second != third


@pytest.mark.usefixtures("pixel_model")
def test_an_earlier_run_is_replaced_only_when_asked(command, tmp_path, capsys):
    output = tmp_path / "run"
    (output / "tensorboard").mkdir(parents=True)
    for name in ("best.keras", "notes.txt", "tensorboard/events.old"):
        (output / name).write_text("mine")
    assert command() == 1
    assert "best.keras exists already. Choose another output or pass --overwrite" in capsys.readouterr().err
    assert (output / "best.keras").read_text() == "mine"
    assert command(CONFIG, "--overwrite") == 0
    assert keras.models.load_model(output / "best.keras").count_params() == 13
    assert (output / "notes.txt").read_text() == "mine"
    assert not (output / "tensorboard" / "events.old").exists()


@pytest.mark.usefixtures("pixel_model")
def test_one_scene_is_split_by_rows_and_caps_the_patch(command, scenes, capsys):
    assert command(CONFIG.replace("patch: 8", "patch: 32"), data=scenes / "eopatch-1") == 0
    printed = capsys.readouterr().out
    assert "the upper half of 1 scene trains, the lower half validates" in printed
    assert "Patches of 8 pixels instead of 32" in printed


@pytest.mark.usefixtures("pixel_model")
def test_ctrl_c_saves_what_was_learnt(command, tmp_path, monkeypatch, capsys):
    def interrupt(self, batch, logs=None):
        if self.model.optimizer.iterations == 15:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Forecast, "on_train_batch_end", interrupt)
    assert command() == 130
    assert "last.keras, as training was when it was stopped" in capsys.readouterr().out
    assert keras.models.load_model(tmp_path / "run" / "last.keras").optimizer.iterations == 15
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.usefixtures("pixel_model")
def test_training_that_diverges_says_so(command, monkeypatch, capsys):
    nothing = float("nan")
    monkeypatch.setattr(keras.losses.BinaryCrossentropy, "call", lambda self, truth, logits: logits * nothing)
    assert command() == 1
    assert "error: Training diverged" in capsys.readouterr().err


def test_the_network_knows_its_bands_and_how_bright_they_are(scenes):
    import numpy as np

    from training.config import Config, ModelConfig
    from training.split import split_scenes
    from training.survey import survey_scenes
    from training.train import build_model

    config = Config(
        bands=("B04", "B08"), model=ModelConfig(filters=8, tefa_blocks=1, bottleneck=2), decay=True, steps=10, epochs=2
    )
    survey = survey_scenes(split_scenes([scenes / "eopatch-0"]), config)
    model = build_model(config, survey)
    assert model.band_names == ("B04", "B08")
    assert (model.scale, model.filters, model.tefa_blocks) == (4, 8, 1)
    mean, std = (np.ravel(weight) for weight in model.get_layer("normalization").weights)
    np.testing.assert_allclose(mean, survey.mean, rtol=1e-6)
    np.testing.assert_allclose(std, survey.std, rtol=1e-6)
    schedule = model.optimizer._learning_rate
    np.testing.assert_allclose([schedule(0), schedule(10), schedule(20)], [1e-4, 5e-5, 0], atol=1e-9)
    assert model.jit_compile is False


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        ("pach: 8", "", "unknown key 'pach'. Did you mean 'patch'?"),
        ("patch: big", "", "patch: expected a whole number"),
        ("bands: [B04, B13]", "", "lacks B13"),
        ("validation_scenes: [eopatch-9]", "", "Received: eopatch-9"),
        ("model: {filters: 3, heads: 2}", "", "`model` does not make a network"),
        (CONFIG, "none", "There is none at"),
    ],
)
def test_errors_end_the_command_with_one_line(command, scenes, tmp_path, capsys, config, data, message):
    assert command(config, data=scenes / data) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "best.keras").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scene: scene.drop_vars("label"), "eopatch-0 has no label"),
        (lambda scene: scene.assign(valid=scene["valid"] & False), "eopatch-0 has no valid frame"),
    ],
)
def test_scenes_that_cannot_be_used(command, monkeypatch, capsys, change, message):
    monkeypatch.setattr("training.split.open_scene", lambda path: change(open_scene(path)))
    assert command() == 1
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written(command, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command(output=tmp_path / "file" / "run") == 1
    assert "Cannot write to" in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "python -m training.train --config" in capsys.readouterr().out
