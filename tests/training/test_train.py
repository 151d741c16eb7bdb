"""Training on small simulated scenes, from the command line to the files it leaves."""

import csv
import re

import keras
import numpy as np
import pytest

from spinet_tf import SPInet
from spinet_tf.data.scene import open_scene
from spinet_tf.errors import SpinetError
from spinet_tf.metrics import MatthewsCorrelation
from tests.helpers import randomize
from tests.training.conftest import PixelModel
from training.config import Config, ModelConfig, load_config
from training.data import open_data
from training.network import build_model, build_optimizer, learning_rate
from training.prepare import main as prepare
from training.start import build_from_start, load_start, with_start_bands
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
def test_prepared_shards_train_as_scenes_do(command, scenes, tmp_path, capsys):
    assert prepare(["--patch", "8", str(scenes), str(tmp_path / "prepared")]) == 0
    assert command(CONFIG.replace("steps: 12\n", ""), data=tmp_path / "prepared") == 0
    # Two scenes of 16x18 pixels train: 2 x 3 windows each, in batches of 4.
    printed = capsys.readouterr().out
    assert "3 epochs of 3 steps of 4 patches of 8 pixels" in printed
    assert "2 scenes train, eopatch-2 validates" in printed
    for change, message in [
        (("patch: 8", "patch: 4"), "patches of 8 pixels, not 4"),
        (("batch: 4", "batch: 4\nbands: [B04]"), "not B04"),
        (("batch: 4", "batch: 4\nsplit: rows"), "split by scenes, not by rows"),
        (("frame_count: 4", "frame_count: 9"), "frame_count of at most 8"),
        (("batch: 4", "batch: 4\nvalidation_scenes: [eopatch-0]"), "eopatch-2 validate, not eopatch-0"),
    ]:
        assert command(CONFIG.replace(*change), data=tmp_path / "prepared", output=tmp_path / "other") == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "other").exists()


def test_a_dry_run_prints_what_it_would_cost_and_writes_nothing(command, tmp_path, capsys):
    model = "model: {filters: 8, tefa_blocks: 0, bottleneck: 2, fusion: plain}"
    assert command(CONFIG + "accumulate: 2\n" + model, "--dry-run") == 0
    printed = capsys.readouterr().out
    for text in ("GMAC for a patch of 4 frames of 8x8", "3 epochs of 12 updates of 4 patches, each in 2 parts", "GB"):
        assert text in printed
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tries_no_step_that_memory_is_too_small_for(command, monkeypatch, capsys):
    model = "model: {filters: 8, tefa_blocks: 0, bottleneck: 2, fusion: plain}"
    monkeypatch.setattr("training.forecast.memory_at_hand", lambda: 10**9)
    monkeypatch.setattr("training.forecast.measure_step", None)
    assert command(CONFIG + model, "--dry-run") == 0
    assert re.search(r"Memory: about 1\.\d GB by the formula, more than the 1\.0 GB here", capsys.readouterr().out)


def test_the_network_knows_its_bands_and_how_bright_they_are(scenes):
    sizes = ModelConfig(filters=8, tefa_blocks=1, bottleneck=2)
    config = Config(bands=("B04", "B08"), model=sizes, split="rows", patch=8, batch=2, frame_count=4)
    data = open_data(config, scenes / "eopatch-0")
    # 8 rows of 18 pixels train.
    assert data.steps == 8 * 18 // 8**2 // 2
    model = build_model(config, data, MatthewsCorrelation())
    assert model.band_names == ("B04", "B08")
    assert (model.scale, model.filters, model.tefa_blocks) == (4, 8, 1)
    mean, std = (np.ravel(weight) for weight in model.get_layer("normalization").weights)
    np.testing.assert_allclose(mean, data.mean, rtol=1e-6)
    np.testing.assert_allclose(std, data.std, rtol=1e-6)
    assert model.jit_compile is False


@pytest.mark.parametrize(
    ("settings", "steps", "rates"),
    [
        ({}, [0, 50], [1e-4, 1e-4]),
        ({"schedule": "cosine"}, [0, 10, 20], [1e-4, 5e-5, 0]),
        ({"schedule": "cosine", "warmup": 4}, [0, 2, 4, 12, 20], [0, 5e-5, 1e-4, 5e-5, 0]),
        ({"warmup": 4}, [0, 2, 4, 20], [0, 5e-5, 1e-4, 1e-4]),
        ({"schedule": "cosine", "warmup": 4, "accumulate": 2}, [4, 8, 24, 40], [5e-5, 1e-4, 5e-5, 0]),
    ],
)
def test_the_learning_rate_over_20_updates(settings, steps, rates):
    rate = learning_rate(Config(**settings), updates=20)
    got = [float(rate if isinstance(rate, float) else rate(step)) for step in steps]
    np.testing.assert_allclose(got, rates, atol=1e-9)


def test_an_average_has_its_momentum_over_updates_not_parts():
    optimizer = build_optimizer(Config(average=0.81, accumulate=2, clip_norm=3.0, optimizer="adamw"), 10)
    assert optimizer.ema_momentum == pytest.approx(0.9)
    assert (optimizer.global_clipnorm, optimizer.gradient_accumulation_steps) == (3.0, 2)
    assert optimizer.weight_decay == 0.004


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        ("pach: 8", "", "unknown key 'pach'. Did you mean 'patch'?"),
        ("patch: big", "", "patch: expected a whole number"),
        ("bands: [B04, B13]", "", "lacks B13"),
        ("frame_count: 9", "", "Expected frame_count of at most 8"),
        ("frame_count: [2, 9]", "", "Expected frame_count of at most 8"),
        ("validation_scenes: [eopatch-9]", "", "Received: eopatch-9"),
        ("frame_count: 4\nmodel: {filters: 3, heads: 2}", "", "`model` does not make a network"),
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The file of a SPInet with weights to go on from, which sees two bands."""
    model = SPInet(("B08", "B04"), filters=4, tefa_blocks=0, bottleneck=2, fusion="plain", mean=[0.3, 0.1], std=[2, 1])
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    randomize(model).save(path)
    return path


def test_a_run_starts_from_a_trained_model(command, trained, tmp_path, capsys, monkeypatch):
    # A run of no steps saves what it starts from.
    monkeypatch.setattr(
        "training.train.fit", lambda model, batches, epochs, keeper, callbacks: keeper.save("best.keras")
    )
    assert command(f"{CONFIG}\nstart: {trained}") == 0
    assert f"bands B08, B04, 4x finer output, from {trained}" in capsys.readouterr().out
    assert load_config(tmp_path / "run" / "config.yaml").bands == ("B08", "B04")
    before, after = (keras.models.load_model(path) for path in (trained, tmp_path / "run" / "best.keras"))
    for old, new in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(new, old, err_msg=old.path)


def test_the_network_to_start_from_keeps_weights_and_normalisation(scenes, trained):
    config = with_start_bands(
        Config(start=str(trained), split="rows", patch=8, frame_count=4, precision="mixed_bfloat16")
    )
    model = build_model(config, open_data(config, scenes / "eopatch-0"), MatthewsCorrelation())
    before = load_start(str(trained))
    for old, new in zip(before.weights, model.weights, strict=True):
        np.testing.assert_array_equal(new, old, err_msg=old.path)
    np.testing.assert_allclose(np.ravel(model.get_layer("normalization").mean), [0.3, 0.1], rtol=1e-6)
    assert model.get_layer("tern").dtype_policy.name == "mixed_bfloat16"


def test_a_preset_is_started_from_by_name():
    config = with_start_bands(Config(start="tiny-simulated"))
    assert config.bands == SPInet.from_preset("tiny-simulated").band_names
    assert with_start_bands(Config()).bands is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("start: nothing.keras", "nothing.keras, which is not there"),
        ("start: {file}\nbands: [B04, B08]", "Expected bands B08, B04, those of"),
        ("start: {file}\nmodel: {{configuration: paper}}", "Leave `model` out"),
        ("start: {other}", "is a PixelModel"),
        ("start: {unnamed}", "is a SPInet without names"),
    ],
)
def test_models_that_cannot_be_started_from(command, trained, tmp_path, capsys, more, message):
    other, unnamed = tmp_path / "other.keras", tmp_path / "unnamed.keras"
    if "{other}" in more:
        model = PixelModel()
        model.build({"images": (None, None, None, None, 12), "frame_mask": (None, None)})
        model.save(other)
    if "{unnamed}" in more:
        SPInet(2, filters=4, tefa_blocks=0, bottleneck=2, fusion="plain").save(unnamed)
    assert command(CONFIG + more.format(file=trained, other=other, unnamed=unnamed)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_scale_cannot_be_started_from(trained):
    with pytest.raises(SpinetError, match=r"Expected labels 4 times finer .* Received: 2 times"):
        build_from_start(str(trained), 2, "float32")


def test_a_run_does_not_replace_the_model_it_starts_from(command, trained, capsys):
    assert command(f"{CONFIG}\nstart: {trained}", "--overwrite", output=trained.parent) == 1
    assert "Choose another output" in capsys.readouterr().err
    assert trained.is_file()
