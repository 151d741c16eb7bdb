"""A map from the server equals the map made in process, and failures leave nothing."""

import numpy as np
import pytest
import rasterio

from serving import predict as served
from spinet_tf import cli
from spinet_tf.inference import predict_scene
from tests.inference.scenes import make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "field.nc"
    scene = make_scene(height=21, width=17)
    scene["bands"][:, :, 2, 3] = 0
    scene.to_netcdf(path, engine="h5netcdf")
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform, file.crs, file.tags(ns="IMAGE_STRUCTURE"), file.descriptions


def test_both_commands_write_the_same_map(server, tiny_spinet, scene, tmp_path, capsys):
    tiny_spinet.save(tmp_path / "model.keras")
    options = [str(scene), "--tile", "12", "--overlap", "4"]
    here, there = str(tmp_path / "here.tif"), str(tmp_path / "there.tif")
    assert cli.main(["predict", *options, "--model", str(tmp_path / "model.keras"), "-o", here]) == 0
    printed = capsys.readouterr().out
    assert served.main([*options, "--server", server.address, "-o", there]) == 0
    assert capsys.readouterr().out == printed.replace(here, there)
    (values, *rest), (served_values, *served_rest) = read(here), read(there)
    np.testing.assert_allclose(served_values, values, rtol=0, atol=1e-5)
    assert np.isnan(values).sum() == 16
    assert np.nanstd(values) > 1e-4
    assert served_rest == rest


def test_a_client_is_an_engine_for_a_scene(client, tiny_spinet):
    scene = make_scene(height=9, width=8)
    np.testing.assert_allclose(
        predict_scene(client, scene)["probability"], predict_scene(tiny_spinet, scene)["probability"], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server", "127.0.0.1:1"], "No server answers at 127.0.0.1:1."),
        (["--name", "other"], "Servable not found: 'other'"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(server, scene, tmp_path, capsys, options, message):
    argv = [str(scene), "--server", server.address, "-o", str(tmp_path / "map.tif"), *options]
    assert served.main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_existing_map_is_refused_before_the_server_is_asked(scene, tmp_path, capsys):
    (tmp_path / "map.tif").write_text("mine")
    assert served.main([str(scene), "--server", "127.0.0.1:1", "-o", str(tmp_path / "map.tif")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "map.tif").read_text() == "mine"


def test_a_missing_band_is_named(client, tmp_path, capsys):
    make_scene(bands=("B02", "B04")).to_netcdf(tmp_path / "few.nc", engine="h5netcdf")
    argv = [str(tmp_path / "few.nc"), "--server", client.address, "-o", str(tmp_path / "map.tif")]
    assert served.main(argv) == 1
    assert "B01" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["few.nc"]
