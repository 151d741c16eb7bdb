"""A comparison trains what its file says, keeps what is finished, and reports what was counted."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from spinet_tf.errors import SpinetError
from training import compare_runs
from training.callbacks import Forecast
from training.compare import main, simulate_missing
from training.compare_config import Simulated, load_comparison
from training.compare_report import comparison_tables, spread
from training.compare_runs import Run, training_parts
from training.compare_superresolution import _MARGIN, NOISE, SuperResolution, _Batches, simulate_series
from training.config import Config, ModelConfig
from training.cost import StepCost
from training.scores import Score
from training.systems import require_settings
from training.tables import markdown_table

HEAD = """
data: {training: SCENES, test: SCENES/eopatch-0}
budget: {steps: 2, batch: 2}
seeds: [3]
training: {patch: 16, epochs: 1, learning_rate: 0.01, frames: clearest, frame_count: 4, max_cloud: 0.9}
"""
SMALL = "  SPInet: {system: spinet, filters: 4, tefa_blocks: 0, bottleneck: 2, training: {checkpoint_minutes: 0}}\n"
ALL = (
    SMALL
    + """
  NDVI thresholds: {system: ndvi}
  HighRes-net: {system: highresnet, filters: 2, blocks: 1, training: {checkpoint_minutes: 0}}
  RAMS: {system: rams, filters: 2, blocks: 0, squeeze: 2, frames: 3}
  DeepSUM: {system: deepsum, filters: 2, layers: 1, frames: 3}
  DeepLabv3: {system: deeplabv3, depth: 10}
super_resolution: {steps: 2, epochs: 1, batch: 1, patch: 4, frames: 2, filters: 2, tefa_blocks: 1, bottleneck: 2}
"""
)


class CrashError(Exception):
    pass


class Crash:
    """Ends the process, in effect, after so many updates of all networks together."""

    def __init__(self, after):
        self.left = after

    def __call__(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise CrashError


@pytest.fixture
def write(tmp_path, scenes):
    def write(text):
        path = tmp_path / "compare.yaml"
        path.write_text(text.replace("SCENES", str(scenes)))
        return path

    return write


@pytest.fixture
def eagerly():
    """Graphs of many networks take longer to build than two steps do without them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def results(folder):
    """What results.json says, but for times."""
    content = json.loads((folder / "results.json").read_text())
    for runs in content["systems"].values():
        for run in runs:
            assert run.pop("seconds_per_km2") > 0
    return content


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
def test_all_systems(write, tmp_path, monkeypatch, capsys):
    pytest.importorskip("keras_hub")
    # Patches of the super-resolution need more than these scenes have; costs are counted in graphs.
    monkeypatch.setattr("training.compare_superresolution._MARGIN", 0)
    monkeypatch.setattr("training.compare_superresolution.count_macs", lambda *arguments: 10**9)
    monkeypatch.setattr("training.compare_runs.count_macs", lambda *arguments: 10**9)
    arguments = ["--config", str(write(HEAD + "systems:\n" + ALL)), "--output", str(tmp_path / "out")]
    with monkeypatch.context() as context:
        # In the middle of the second network, whose first update is the third of all.
        context.setattr(Forecast, "on_train_batch_end", Crash(after=3))
        with pytest.raises(CrashError):
            main(arguments)
    assert "RAMS" not in capsys.readouterr().out
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("Kept") == 2
    assert "Going on after step 1 of epoch 1" in printed
    found = results(tmp_path / "out")
    names = ["SPInet", "NDVI thresholds", "HighRes-net", "RAMS", "DeepSUM", "DeepLabv3"]
    assert list(found["systems"]) == names
    for runs in found["systems"].values():
        assert [list(run["scenes"]) for run in runs] == [["eopatch-0"]]
    steps = {name: runs[0]["steps"] for name, runs in found["systems"].items()}
    assert steps.pop("NDVI thresholds") == 0
    assert set(steps.values()) == {2}
    assert found["super_resolution"]["runs"][0]["cpsnr"] > 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert all(f"| {name} |" in table for name in found["systems"])
    for name in ("maps.png", "mcc.png"):
        Image.open(tmp_path / "out" / name).verify()

    # Everything is there already.
    monkeypatch.setattr(compare_runs, "train", None)
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("Kept") == 7
    assert (tmp_path / "out" / "table.md").read_text() == table

    other = write((HEAD + "systems:\n" + ALL).replace("learning_rate: 0.01", "learning_rate: 0.02"))
    assert main(["--config", str(other), "--output", str(tmp_path / "out")]) == 1
    assert "holds a run of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "rate", "slower"), [("compare_cpu", 0.002, 0.0005), ("compare_gpu", 0.0001, 0.0001)])
def test_the_projects_own_comparisons(name, rate, slower):
    comparison = load_comparison(Path(__file__).parents[2] / "training" / "configs" / f"{name}.yaml")
    networks = {system: config for system, config in comparison.systems.items() if config}
    assert len(comparison.systems) == len(networks) + 1 == 7
    # All are given the same, but for the frames of those of a fixed length, and the rate at which DeepLabv3 learns.
    apart = dict.fromkeys(("model", "frame_count", "learning_rate"))
    alike = {json.dumps({**dataclasses.asdict(config), **apart}, sort_keys=True) for config in networks.values()}
    assert len(alike) == 1
    assert {system: config.learning_rate for system, config in networks.items()} == {
        **dict.fromkeys(networks, rate),
        "DeepLabv3": slower,
    }
    assert {system: config.frame_count for system, config in networks.items() if config.model.series} == {
        "RAMS": 9,
        "DeepSUM": 9,
    }


def test_settings_of_a_system(write):
    comparison = load_comparison(write(HEAD + "systems:\n" + ALL))
    assert comparison.systems["NDVI thresholds"] is None
    assert comparison.systems["RAMS"].frame_count == 3
    assert comparison.systems["SPInet"].frame_count == 4
    assert {config.steps for config in comparison.systems.values() if config} == {2}
    assert {config.batch for config in comparison.systems.values() if config} == {2}
    own = HEAD + "systems:\n  HighRes-net: {system: highresnet, training: {learning_rate: 0.5}}\n"
    assert load_comparison(write(own)).systems["HighRes-net"].learning_rate == 0.5


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("steps: 2, ", "", "expected steps or minutes"),
        ("steps: 2,", "steps: 2, minutes: 3,", "expected steps or minutes"),
        ("steps: 2,", "updates: 2,", "unknown key 'updates'"),
        ("seeds: [3]", "seeds: 3", "seeds: expected a list of whole numbers. Received: 3"),
        ("data: {", "data: {validation: x, ", "data: expected the keys training, test, .* unknown validation"),
        ("data: {training: SCENES,", "data: {", "no training"),
        ("  SPInet: {system: spinet,", "  SPInet: {system: unet,", "systems: SPInet: .* one of spinet"),
        ("  SPInet: {", "  '!': {", "names of systems that differ in letters or digits"),
        ("patch: 16", "patches: 16", "systems: SPInet: unknown key 'patches'"),
    ],
)
def test_errors(write, capsys, before, after, message):
    text = HEAD + "systems:\n" + SMALL
    assert before in text
    assert main(["--config", str(write(text.replace(before, after))), "--output", "nowhere"]) == 1
    assert re.search(message, capsys.readouterr().err)


def score(mcc):
    return Score(mcc, mcc / 2, 0.5, 0.5, 0.5, 0.5, mcc / 4, mcc, {})


def test_tables_hold_means_over_scenes_and_spreads_over_seeds():
    runs = [
        Run("A", seed, 1234, 5 * 10**9, 100, time, {"x": score(a), "y": score(b)})
        for seed, time, a, b in ((1, 1.0, 0.5, 0.7), (2, 2.0, 0.6, 0.8), (3, 9.0, 0.1, 0.3))
    ]
    runs.append(Run("NDVI", None, 2, None, 0, 0.25, {"x": score(0.25), "y": score(0.75)}))
    super_resolution = {"bicubic": 40, "parameters": 9, "macs": 10**8, "runs": [{"cpsnr": 41.0}, {"cpsnr": 42.0}]}
    systems, scenes, images = map(markdown_table, comparison_tables(runs, super_resolution))
    means = [0.6, 0.7, 0.2]
    expected = f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}"
    halves = f"{np.mean(means) / 2:.3f} ± {np.std(means, ddof=1) / 2:.3f}"
    quarters = f"{np.mean(means) / 4:.3f} ± {np.std(means, ddof=1) / 4:.3f}"
    assert f"| A | 3 | {expected} | {halves} | {quarters} | 1,234 | 5 | 100 | 2.00 |" in systems
    assert "| NDVI | - | 0.500 | 0.250 | 0.125 | 2 | - | - | 0.25 |" in systems
    assert f"| A | 3 | {np.mean([0.5, 0.6, 0.1]):.3f} ± {np.std([0.5, 0.6, 0.1], ddof=1):.3f} |" in scenes
    assert f"| PIUnet | 2 | 41.50 ± {np.std([41, 42], ddof=1):.2f} | 9 | 0.1 |" in images


def test_spread_of_one_and_of_none():
    assert (spread([0.5]), spread([None, 0.25]), spread([None])) == ("0.500", "0.250", "-")


def test_a_simulated_series_is_coarser_and_misplaced(rng):
    truth = np.cumsum(np.cumsum(rng.normal(size=(60, 66)), axis=0), axis=1).astype("float32")
    images, target = simulate_series(truth, 4, 0.0, np.random.default_rng(1))
    rows, columns = (side - 2 * _MARGIN for side in truth.shape)
    np.testing.assert_array_equal(target, truth[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    assert images.shape == (4, rows // 3, columns // 3)
    means = target.reshape(rows // 3, 3, columns // 3, 3).mean((1, 3))
    # Up to its brightness the first image is the truth, blurred and averaged; the others are not where it is.
    errors = [np.abs(image * (means.mean() / image.mean()) - means).mean() for image in images]
    assert errors[0] < 0.5 * min(errors[1:])


def test_a_batch_of_super_resolution_depends_on_its_number_alone(rng):
    truths = [rng.normal(size=(60, 60)).astype("float32") for _ in range(2)]
    wanted = SuperResolution(patch=4, batch=2, frames=3)
    whole, rest = (_Batches(wanted, 1, truths, (0.5, 2.0), start, 4) for start in (0, 2))
    (inputs, target), (again, target_again) = whole[3], rest[1]
    np.testing.assert_array_equal(inputs["images"], again["images"])
    np.testing.assert_array_equal(target, target_again)
    assert inputs["images"].shape == (2, 3, 4, 4, 1)
    assert target.shape == (2, 12, 12, 2)
    assert np.abs(inputs["images"] - whole[2][0]["images"]).max() > 0.1
    assert NOISE < 1


def test_minutes_become_updates_once(write, tmp_path, monkeypatch):
    comparison = load_comparison(write(HEAD.replace("steps: 2", "minutes: 1.5") + "systems:\n" + SMALL))
    config = comparison.systems["SPInet"]
    assert config.steps is None
    monkeypatch.setattr(compare_runs, "open_data", lambda *arguments: type("Data", (), {"patch": 16, "scale": 4}))
    monkeypatch.setattr(compare_runs, "build_model", lambda *arguments: None)
    monkeypatch.setattr(compare_runs, "measure_step", lambda *arguments: StepCost(0.25, 0))
    assert compare_runs._steps_for(90, config, comparison.training, tmp_path) == 360
    monkeypatch.setattr(compare_runs, "measure_step", None)
    assert compare_runs._steps_for(90, config, comparison.training, tmp_path) == 360


def test_what_validates_is_not_learnt_from(write, tmp_path):
    comparison = load_comparison(write(HEAD + "systems:\n" + SMALL))
    assert [part.name for part in training_parts(comparison)] == ["eopatch-0", "eopatch-1"]
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").touch()
    shards = write((HEAD + "systems:\n" + SMALL).replace("training: SCENES", f"training: {tmp_path}/shards"))
    with pytest.raises(SpinetError, match="Name the folder of the scenes that they were made of under data: fit"):
        training_parts(load_comparison(shards))


def test_only_missing_scenes_are_simulated(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("training.compare.simulate_eopatch", lambda path, *sizes: made.append((path.name, *sizes)))
    (tmp_path / "eopatch-002").mkdir()
    simulate_missing(tmp_path, Simulated(count=3, size=16, dates=5, seed=7))
    assert made == [("eopatch-001", [7, 1], 16, 5), ("eopatch-003", [7, 3], 16, 5)]


def test_settings_of_another_system():
    with pytest.raises(SpinetError, match=r"Expected settings of rams out of filters, blocks, .* Received: depth"):
        require_settings("rams", ["filters", "depth"], ["bands", "scale"])
    with pytest.raises(SpinetError, match="frame_count of at most 9, which deepsum takes"):
        Config(ModelConfig(system="deepsum"), frames="clearest", frame_count=20)
    with pytest.raises(SpinetError, match=r"frame_count of at most 5, which rams takes.* Received: 5, all"):
        Config(ModelConfig(system="rams", frames=5), frames="all", frame_count=5)
