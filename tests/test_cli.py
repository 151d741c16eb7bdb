"""The command line writes what it says, and nothing when it fails."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio

import spinet_tf
from spinet_tf import cli
from spinet_tf.inference import load_model, predict_scene
from tests.inference.scenes import make_scene


@pytest.fixture(scope="module")
def model(tiny_spinet, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    tiny_spinet.save(path)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "field.nc"
    make_scene(height=13, width=11).to_netcdf(path, engine="h5netcdf")
    return path


def fails(capsys, *argv):
    assert cli.main([str(arg) for arg in argv]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


# === predict ===


def test_predict_writes_the_map_of_the_library(scene, model, tmp_path, capsys):
    output = tmp_path / "maps" / "map.tif"
    assert (
        cli.main(["predict", str(scene), "--model", str(model), "-o", str(output), "--tile", "10", "--overlap", "4"])
        == 0
    )
    expected = predict_scene(load_model(model), make_scene(height=13, width=11), tile=10, overlap=4)
    with rasterio.open(output) as file:
        np.testing.assert_allclose(file.read(1), expected["probability"], rtol=0, atol=1e-6)
        assert file.transform == expected.rio.transform()
        assert file.crs == expected.rio.crs
    printed = capsys.readouterr().out
    assert "Scene field: 13 x 11 pixels, 4 dates, 2019-03-01 to 2019-03-31" in printed
    assert f"Model {model}" in printed
    assert "Used 3 dates, 2019-03-01 to 2019-03-31; 3 in each tile\nCaution: a map of fewer than 4 dates" in printed
    height, width = expected.attrs["tile"]
    assert f"Tiles: {expected.attrs['tiles']} of {height} x {width} pixels, with the means of the scene, in" in printed
    assert f"Wrote {output}: 52 x 44 pixels" in printed
    assert list(output.parent.iterdir()) == [output]


def test_predict_hands_its_options_on(scene, model, tmp_path, monkeypatch):
    seen = {}

    def predict(images, num_frames):
        seen.setdefault("shape", images.shape)
        return np.zeros((len(images), 4 * images.shape[2], 4 * images.shape[3], 1), np.float32)

    monkeypatch.setattr("spinet_tf.inference.engine.KerasEngine.predict", lambda self, *inputs: predict(*inputs))
    options = ["--frames", "clearest", "--count", "2", "--tile", "6", "--overlap", "2", "--means", "tile"]
    assert cli.main(["predict", str(scene), "--model", str(model), "-o", str(tmp_path / "map.tif"), *options]) == 0
    assert seen["shape"][1:] == (2, 6, 6, 12)


def test_predict_replaces_a_map_only_when_told(scene, model, tmp_path, capsys, monkeypatch):
    output = tmp_path / "map.tif"
    output.write_text("mine")
    argv = ["predict", scene, "--model", model, "-o", output]
    with monkeypatch.context() as patch:
        # Refused before any work.
        patch.setattr("spinet_tf.inference.model.load_model", None)
        assert "exists already" in fails(capsys, *argv)
    assert output.read_text() == "mine"
    assert cli.main([*map(str, argv), "--overwrite"]) == 0
    assert output.read_bytes()[:2] == b"II"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{scene}", "--model", "nowhere.keras"], "nowhere.keras, which is not there"),
        (["{scene}", "--model", "{scene}"], "is not one"),
        (["nowhere", "--model", "{model}"], "nothing at nowhere"),
        (["{scene}", "--model", "{model}", "--tile", "8", "--overlap", "8"], "tile size above the overlap"),
        (["{scene}", "--model", "{model}", "--max-cloud", "2"], "max_cloud from 0 to 1"),
        (["{scene}", "--model", "{model}", "--frames", "clearest", "--count", "0"], "at least 1 frame"),
    ],
)
def test_predict_fails_with_one_line_and_leaves_nothing(scene, model, tmp_path, capsys, argv, message):
    argv = [argument.format(scene=scene, model=model) for argument in argv]
    assert message in fails(capsys, "predict", *argv, "-o", tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_predict_names_a_missing_band_and_a_scene_without_valid_frame(model, tmp_path, capsys):
    output = tmp_path / "maps" / "map.tif"
    make_scene(bands=spinet_tf.BANDS[:-1]).to_netcdf(tmp_path / "few.nc", engine="h5netcdf")
    assert "B12" in fails(capsys, "predict", tmp_path / "few.nc", "--model", model, "-o", output)
    cloudy = make_scene()
    cloudy["valid"][:] = False
    cloudy.to_netcdf(tmp_path / "cloudy.nc", engine="h5netcdf")
    assert "valid" in fails(capsys, "predict", tmp_path / "cloudy.nc", "--model", model, "-o", output)
    assert not output.parent.exists()


def test_interrupting_leaves_no_map(scene, model, tmp_path, capsys, monkeypatch):
    def interrupt(self, images, num_frames):
        raise KeyboardInterrupt

    monkeypatch.setattr("spinet_tf.inference.engine.KerasEngine.predict", interrupt)
    assert cli.main(["predict", str(scene), "--model", str(model), "-o", str(tmp_path / "map.tif")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "map.tif").exists()


def test_predict_writes_whatever_is_asked_for(scene, model, tmp_path, capsys):
    argv = ["predict", scene, "--model", model, "-o", tmp_path / "map.tif", "--uncertainty", "--valid-frames"]
    argv += ["--polygons", tmp_path / "fields.gpkg", "--min-area", "0", "--quicklook", tmp_path / "map.png"]
    argv += ["--stac-item", tmp_path / "map.json", "--dtype", "uint8", "--seam-free", "8"]
    assert cli.main([str(arg) for arg in argv]) == 0
    printed = capsys.readouterr().out
    names = ["map.tif", "map_uncertainty.tif", "map_frames.tif", "map_class.tif", "fields.gpkg", "map.png", "map.json"]
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    for name in names:
        assert f"Wrote {tmp_path / name}" in printed
    with rasterio.open(tmp_path / "map.tif") as probability, rasterio.open(tmp_path / "map_class.tif") as classes:
        assert probability.dtypes == classes.dtypes == ("uint8",)
        # Without --threshold, polygons are those of one half.
        steps = probability.read(1)
        apart = steps != 127
        np.testing.assert_array_equal((classes.read(1) == 1)[apart], (steps > 127)[apart])
    item = json.loads((tmp_path / "map.json").read_text())
    assert {asset["href"] for asset in item["assets"].values()} == {f"./{name}" for name in names[:-1]}
    assert item["properties"]["start_datetime"].startswith("2019-03-01")
    assert item["properties"]["end_datetime"].startswith("2019-03-31")


@pytest.mark.parametrize("option", ["--polygons", "--quicklook", "--stac-item"])
def test_predict_refuses_to_replace_a_further_output_before_the_work(scene, model, tmp_path, capsys, option):
    (tmp_path / "mine").write_text("mine")
    argv = ["predict", scene, "--model", model, "-o", tmp_path / "map.tif", option, tmp_path / "mine"]
    assert "mine exists already" in fails(capsys, *argv)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_predict_takes_a_part_of_the_source(scene, model, tmp_path, capsys):
    options = ["--dates", "2019-03-05/2019-03-25", "-o", str(tmp_path / "map.tif")]
    assert cli.main(["predict", str(scene), "--model", str(model), *options]) == 0
    assert "2 dates, 2019-03-11 to 2019-03-21" in capsys.readouterr().out
    assert "no date" in fails(capsys, "info", scene, "--dates", "2020-03-05/2020-03-25").lower()


# === view ===


def test_view_writes_a_page_beside_the_map(scene, model, tmp_path, capsys):
    output = tmp_path / "map.tif"
    assert cli.main(["predict", str(scene), "--model", str(model), "-o", str(output)]) == 0
    capsys.readouterr()
    assert cli.main(["view", str(output), str(scene)]) == 0
    assert capsys.readouterr().out == f"Wrote {tmp_path / 'map.html'}\n"
    assert "field" in (tmp_path / "map.html").read_text()
    assert "exists already" in fails(capsys, "view", output)
    assert cli.main(["view", str(output), "-o", str(tmp_path / "other.html")]) == 0
    assert "nowhere.tif" in fails(capsys, "view", tmp_path / "nowhere.tif")


# === synthesize, info ===


def test_synthesize_writes_scenes_that_info_describes(tmp_path, capsys):
    argv = ["synthesize", str(tmp_path), "--count", "2", "--size", "12", "--dates", "3", "--seed", "5"]
    assert cli.main(argv) == 0
    paths = [tmp_path / "eopatch-001", tmp_path / "eopatch-002"]
    assert capsys.readouterr().out == "".join(f"Wrote {path}\n" for path in paths)
    assert "exists already" in fails(capsys, *argv)
    assert cli.main([*argv, "--overwrite"]) == 0
    capsys.readouterr()

    assert cli.main(["info", str(paths[1])]) == 0
    printed = capsys.readouterr().out
    for line in ("scene       eopatch-002", "12 x 12 pixels", "EPSG:32633", "label       48 x 48", "dates       3"):
        assert line in printed
    assert printed.count("% clear") == 3


def test_info_describes_a_scene(scene, capsys):
    assert cli.main(["info", str(scene)]) == 0
    printed = capsys.readouterr().out
    assert "size        13 x 11 pixels" in printed
    assert "bounds      500000.5 5099870.25 500110.5 5100000.25" in printed
    assert "bands       B01 B02" in printed
    assert "label" not in printed
    assert "2019-03-01  100% clear" in printed
    assert "2019-03-11    0% clear" in printed


def test_info_numbers_the_frames_of_a_scene_without_dates_and_place(tmp_path, capsys):
    make_scene(georeferenced=False).drop_vars("time").to_netcdf(tmp_path / "bare.nc", engine="h5netcdf")
    assert cli.main(["info", str(tmp_path / "bare.nc")]) == 0
    printed = capsys.readouterr().out
    assert "CRS         none" in printed
    assert "bounds" not in printed
    assert "number 1    0% clear" in printed


def test_info_describes_a_model(model, tiny_spinet, capsys):
    assert cli.main(["info", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "model       SPInet" in printed
    assert "bands       B01 B02" in printed
    assert "scale       4" in printed
    assert f"parameters  {tiny_spinet.count_params():,}" in printed
    assert '"filters": 8' in printed


@pytest.mark.parametrize("path", ["nowhere", "nowhere.keras"])
def test_info_refuses_what_is_not_there(path, capsys):
    fails(capsys, "info", path)


# === the program ===


@pytest.mark.parametrize("argv", [[], ["predict"], ["predict", "scene"], ["fly"]])
def test_wrong_usage_is_reported_by_argparse(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)
    assert "usage: spinet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--help"], ["predict", "--help"], ["view", "--help"], ["synthesize", "--help"], ["info", "--help"]]
)
def test_help_shows_examples(argv, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(argv)
    assert "example" in capsys.readouterr().out


@pytest.mark.slow
def test_the_program_exits_with_the_code_of_its_command(tmp_path):
    argv = [sys.executable, "-m", "spinet_tf.cli", "info", tmp_path / "none"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"spinet {spinet_tf.__version__}\n"
