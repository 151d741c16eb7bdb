"""Scores of the network and of the baseline on what was held out, checked against scikit-learn."""

import json
import re

import keras
import numpy as np
import pytest
from sklearn.metrics import (
    brier_score_loss,
    f1_score,
    jaccard_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

import spinet_tf
from spinet_tf.data import ai4eo, open_scene
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.models.ndvi import NDVIThresholds
from tests.labelled import labelled_scene
from training.config import Config, save_config
from training.evaluate import load_thresholds, main
from training.scoring import ndvi_inputs
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
    return main(["--model", str(run / "best.keras"), "--data", str(data), "--output", str(output), *map(str, more)])


def read(output):
    return json.loads((output / "scores.json").read_text())


def nearly(value):
    return pytest.approx(value, abs=1e-9)


def expected_scores(scene, cultivated):
    label, predicted = scene["label"].values.ravel(), cultivated.ravel()
    known = label != 255
    weight = ai4eo.weight_map(scene["label"].values == 1, scene["label"].values == 255).ravel()
    truth = label[known] == 1
    return {
        "mcc": nearly(matthews_corrcoef(truth, predicted[known])),
        "weighted_mcc": nearly(matthews_corrcoef(label == 1, predicted, sample_weight=weight)),
        "precision": nearly(precision_score(truth, predicted[known], zero_division=0)),
        "recall": nearly(recall_score(truth, predicted[known])),
        "f1": nearly(f1_score(truth, predicted[known])),
        "iou": nearly(jaccard_score(truth, predicted[known])),
    }


def plain(row):
    return {name: value for name, value in row.items() if not name.startswith("mcc_")}


@pytest.mark.slow
def test_scores_of_scenes_held_out(run, scenes, tmp_path, capsys):
    assert command(run, scenes, tmp_path / "out") == 0
    summary = read(tmp_path / "out")
    engine = KerasEngine(keras.models.load_model(run / "best.keras"))
    baseline = NDVIThresholds().fit([ndvi_inputs(open_scene(scenes / "eopatch-0"))])
    assert summary["thresholds"]["ndvi"] == [baseline.low, baseline.high]
    assert summary["thresholds"]["model"] == 0.5
    chosen = summary["thresholds"]["model_at_chosen"]
    assert [row["scene"] for row in summary["scenes"]] == ["eopatch-1", "eopatch-2"]
    found = []
    for row in summary["scenes"]:
        scene = open_scene(scenes / row["scene"])
        predicted = spinet_tf.predict_scene(engine, scene)
        probability = predicted["probability"].values
        found.append((scene["label"].values, probability))
        assert plain(row["model"]) == expected_scores(scene, probability > 0.5)
        assert plain(row["model_at_chosen"]) == expected_scores(scene, probability > np.float32(chosen))
        assert plain(row["ndvi"]) == expected_scores(scene, baseline.predict(*ndvi_inputs(scene)[:3]))
        # How many of the frames that the model saw show each pixel clear.
        frames = predicted.attrs["frames"]
        assert row["frames"] == len(frames)
        clear = np.kron(scene["valid"].values[frames].sum(axis=0), np.ones((4, 4)))
        known = scene["label"].values != 255
        groups = {"3 to 4": (clear >= 3) & (clear < 5), "5 to 7": (clear >= 5) & (clear < 8), "2": clear == 2}
        for name, group in groups.items():
            assert row["pixels_by_clear_frames"].get(name, 0) == np.count_nonzero(group & known)
            if np.any(group & known):
                mcc = matthews_corrcoef(scene["label"].values[group & known], probability[group & known] > 0.5)
                assert row["model"]["mcc_by_clear_frames"][name] == nearly(mcc)
        # The curve is what the clearest frames alone give.
        curve = row["curve"]
        assert curve["frames"] == [count for count in (1, 2, 3, 5) if count < len(frames)] + [len(frames)]
        for count, mcc, ndvi in zip(curve["frames"], curve["model"], curve["ndvi"], strict=True):
            few = spinet_tf.predict_scene(engine, scene, frames="clearest", count=count)
            few_map = few["probability"].values > 0.5
            assert mcc == pytest.approx(matthews_corrcoef(scene["label"].values[known], few_map[known]), abs=1e-4)
            if count < len(frames):
                inputs = ndvi_inputs(scene.isel(time=few.attrs["frames"]))
                ndvi_map = baseline.predict(*inputs[:3])
                assert ndvi == nearly(matthews_corrcoef(scene["label"].values[known], ndvi_map[known]))
        assert curve["model"][-1] == row["model"]["mcc"]
        assert curve["ndvi"][-1] == row["ndvi"]["mcc"]

    def mean_mcc(threshold):
        known = [(label[label != 255], probability[label != 255] > threshold) for label, probability in found]
        return np.mean([matthews_corrcoef(label, called) for label, called in known])

    assert summary["mean"]["model_at_chosen"]["mcc"] == nearly(mean_mcc(np.float32(chosen)))
    assert mean_mcc(np.float32(chosen)) >= max(mean_mcc(np.float32(step)) for step in np.arange(0.05, 1, 0.05)) - 1e-9
    for system in ("model", "ndvi"):
        for name in ("mcc", "weighted_mcc", "iou", "mcc_elsewhere"):
            mean = np.mean([row[system][name] for row in summary["scenes"]])
            assert summary["mean"][system][name] == pytest.approx(mean)

    printed, markdown = capsys.readouterr().out, (tmp_path / "out" / "scores.md").read_text()
    names = ("mcc", "weighted_mcc", "precision", "recall", "f1", "iou")
    shown = [f"{summary['scenes'][0]['model'][name]:.3f}" for name in names]
    assert "| eopatch-1 | SPInet at 0.5 | " + " | ".join(shown) + " |" in markdown
    for text in (printed, markdown):
        assert "1 scene trains, eopatch-1, eopatch-2 validate" in text
        assert "every known pixel counting once" in text
        assert f"SPInet at {chosen:g}: the threshold with the highest mean MCC, chosen on these very scenes" in text
    assert shown[0] in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "scores.json", "scores.md"]
    for path in (tmp_path / "out").iterdir():
        assert f"Wrote {path}" in printed
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("<img") == 2 * 6 + 2
    # Pictures are drawn at the threshold that nothing chose here.
    assert "Map, SPInet at 0.5<" in report

    # What was chosen there is used on other scenes, and nothing is chosen on them.
    options = ["--all", "--no-curve", "--thresholds-from", tmp_path / "out" / "scores.json"]
    assert command(run, scenes, tmp_path / "all", *options) == 0
    again = read(tmp_path / "all")
    assert [row["scene"] for row in again["scenes"]] == ["eopatch-0", "eopatch-1", "eopatch-2"]
    assert again["thresholds"] == summary["thresholds"]
    for system in ("model", "model_at_chosen", "ndvi"):
        assert plain(again["scenes"][1][system]) == pytest.approx(plain(summary["scenes"][0][system]))
    assert "curve" not in again["scenes"][1]
    assert f"Map, SPInet at {chosen:g}<" in (tmp_path / "all" / "report.html").read_text()
    assert f"chosen on other scenes, by {tmp_path / 'out' / 'scores.json'}" in capsys.readouterr().out


@pytest.mark.slow
def test_scores_of_the_lower_half(run, scenes, tmp_path):
    assert command(run, scenes / "eopatch-2", tmp_path / "out", "--no-curve", "--uncertainty") == 0
    summary = read(tmp_path / "out")
    (row,) = summary["scenes"]
    assert row["scene"] == "eopatch-2 (lower half)"
    upper, lower = (Part(scenes / "eopatch-2", half)() for half in ("upper", "lower"))
    baseline = NDVIThresholds().fit([ndvi_inputs(upper)])
    assert summary["thresholds"]["ndvi"] == [baseline.low, baseline.high]
    assert plain(row["ndvi"]) == expected_scores(lower, baseline.predict(*ndvi_inputs(lower)[:3]))
    # The map is made from the lower half alone: nothing of the upper one is seen.
    probability = spinet_tf.predict_scene(keras.models.load_model(run / "best.keras"), lower)["probability"].values
    assert plain(row["model"]) == expected_scores(lower, probability > 0.5)
    known = lower["label"].values != 255
    trust = summary["uncertainty"]["entropy"]
    assert "own" not in summary["uncertainty"]
    brier = brier_score_loss(lower["label"].values[known] == 1, probability[known])
    assert trust["all"]["brier"] == pytest.approx(brier, rel=1e-4)
    assert trust["all"]["pixels"] == trust["near_boundary"]["pixels"] + trust["elsewhere"]["pixels"] == known.sum()
    report, markdown = ((tmp_path / "out" / name).read_text() for name in ("report.html", "scores.md"))
    assert "Uncertainty: binary entropy of the probability" in report
    assert f"| together | all pixels, by entropy | {trust['all']['ece']:.4f} |" in markdown


@pytest.mark.slow
def test_all_scenes_of_a_folder(run, tmp_path, capsys):
    """With everything that a label can lack: one class, the other, all but a pixel; and with ground never seen."""
    labels = {"all": 1, "none": 0, "one pixel": 255}
    for number, (name, value) in enumerate(labels.items()):
        scene = labelled_scene(seed=number, name=name)
        scene["label"][:] = value
        if name == "one pixel":
            scene["label"][20, 20] = 1
            scene["bands"][:, :, :3] = 0
        scene.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    assert command(run, tmp_path, tmp_path / "out", "--all") == 0
    summary = read(tmp_path / "out")
    assert summary["thresholds"] == {"model": 0.5, "ndvi": [0.4, 0.6]}
    assert [row["scene"] for row in summary["scenes"]] == ["all", "none", "one pixel"]
    for row in summary["scenes"]:
        assert row["model"]["mcc"] == row["model"]["weighted_mcc"] == row["ndvi"]["mcc"] == 0
    # 12 x 10 pixels in 4 x 4, and three of 12 rows that no frame holds data for.
    assert [row["unseen_pixels"] for row in summary["scenes"]] == [0, 0, 3 * 10 * 16]
    assert [sum(row["pixels_by_clear_frames"].values()) for row in summary["scenes"]] == [1920, 1920, 1]
    out = capsys.readouterr().out
    assert "NDVI baseline: cultivated from 0.400 to 0.600, the challenge's own thresholds" in out
    assert "highest mean MCC" not in out
    assert "480 label pixels that none of them holds data for" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_without_the_bands_of_ndvi_there_is_no_baseline(tmp_path, capsys):
    bands = ("B05", "B11", "B12")
    keras.utils.set_random_seed(3)
    model = spinet_tf.SPInet(bands, scale=2, filters=8, tefa_blocks=1, bottleneck=2, mean=[0.1] * 3, std=[0.1] * 3)
    model.save(tmp_path / "best.keras")
    save_config(Config(), tmp_path / "config.yaml")
    (tmp_path / "scenes").mkdir()
    labelled_scene(bands=bands, scale=2).to_netcdf(tmp_path / "scenes" / "red edge.nc", engine="h5netcdf")
    assert command(tmp_path, tmp_path / "scenes", tmp_path / "out") == 0
    summary = read(tmp_path / "out")
    assert "ndvi" not in summary["thresholds"] | summary["mean"] | summary["scenes"][0] | summary["mean"]["curve"]
    assert "NDVI baseline: none, because red edge (lower half) lacks B04 and B08." in capsys.readouterr().out
    # Its thresholds serve other scenes, which then have the challenge's baseline.
    assert load_thresholds(tmp_path / "out" / "scores.json").ndvi is None


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


def test_errors(run, scenes, tmp_path, capsys, monkeypatch):
    def nothing(*_, **__):
        raise AssertionError("predicted")

    monkeypatch.setattr("training.scoring.predict_scene", nothing)

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
    (tmp_path / "file").write_text("")
    assert "Cannot write" in error_of(run, scenes, tmp_path / "file" / "out")
    assert "goes with --all" in error_of(run, scenes, tmp_path / "out2", "--thresholds-from", "scores.json")

    made = {
        "bands": ("Expected the bands B02, B04, B08. odd lacks B02", labelled_scene(bands=("B03", "B04", "B08"))),
        "scale": ("Expected labels 4 times finer than the images.* odd: 2 times", labelled_scene(scale=2)),
        "label": ("odd has no label", labelled_scene().drop_vars("label")),
        "unknown": ("odd has a label of unknown pixels only", labelled_scene().assign(label=_all_unknown)),
        "valid": ("odd has no valid frame", labelled_scene().assign(valid=lambda scene: scene["valid"] & False)),
    }
    for name, (message, scene) in made.items():
        folder = tmp_path / name
        folder.mkdir()
        # The last, so that the others would have been mapped before it.
        labelled_scene().to_netcdf(folder / "fine.nc", engine="h5netcdf")
        scene.to_netcdf(folder / "odd.nc", engine="h5netcdf")
        error = error_of(run, folder, tmp_path / "out", "--all", "--overwrite")
        assert re.search(message, error), error
    # Earlier scores outlive an evaluation that fails.
    assert (tmp_path / "out" / "scores.json").read_text() == "mine"


def _all_unknown(scene):
    return scene["label"] * 0 + np.uint8(255)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"thresholds": {"model": 0.5, "ndvi": [0.4, 0.6]}}',
        '{"thresholds": {"model_at_chosen": 1.5}}',
        '{"thresholds": {"model_at_chosen": "0.5"}}',
        '{"thresholds": {"model_at_chosen": null}}',
        '{"thresholds": {"model_at_chosen": 0.43, "ndvi": [0.6, 0.4]}}',
        '{"thresholds": {"model_at_chosen": 0.43, "ndvi": [0.6]}}',
    ],
)
def test_a_file_without_thresholds(text, tmp_path):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(SpinetError, match=r"Expected scores\.json of an evaluation of validation scenes"):
        load_thresholds(tmp_path / "scores.json")


def test_no_file_of_thresholds(tmp_path):
    with pytest.raises(SpinetError, match=r"Cannot read .*nothing\.json: No such file"):
        load_thresholds(tmp_path / "nothing.json")


@pytest.mark.slow
def test_what_training_leaves_can_be_evaluated(scenes, tmp_path, capsys):
    """The whole way with the network itself, by the two commands."""
    config = tmp_path / "config.yaml"
    sizes = "model: {filters: 8, tefa_blocks: 1, bottleneck: 2}"
    config.write_text(sizes + "\npatch: 8\nbatch: 2\nsteps: 2\nepochs: 1\nframe_count: 4\n")
    arguments = ["--data", str(scenes), "--output"]
    assert train_main(["--config", str(config), *arguments, str(tmp_path / "run")]) == 0
    assert main(["--model", str(tmp_path / "run" / "best.keras"), *arguments, str(tmp_path / "out")]) == 0
    assert "Wrote " + str(tmp_path / "out" / "report.html") in capsys.readouterr().out
