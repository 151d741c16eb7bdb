"""The client and the local server: maps over gRPC equal maps in process."""

import inspect

import numpy as np
import pytest
import rasterio
from affine import Affine
from spinet_client import Client
from spinet_client.calls import Description, Tensor
from spinet_client.scene import SceneMap
from spinet_client.tiling import TILE

from serving.server import Server
from spinet_tf import BANDS, cli, predict_scene
from spinet_tf.inference import open_engine
from spinet_tf.inference.engine import KerasEngine
from tests.inference.scenes import TRANSFORM, make_scene

SMALL = {"tile": 10, "overlap": 4}


@pytest.fixture(scope="module")
def scene():
    scene = make_scene(height=21, width=17)
    scene["valid"][0, :9] = False
    scene["bands"][:, :, 2, 3] = 0
    scene["bands"][:, :, 12:, 8:] = 0
    scene["valid"][:] = scene["valid"] & scene["bands"].any("band")
    return scene


@pytest.fixture(scope="module")
def arrays(scene):
    return scene["bands"].transpose("time", "y", "x", "band").to_numpy(), scene["valid"].to_numpy()


@pytest.fixture(scope="module")
def engine(server):
    engine = open_engine(f"grpc://{server.address}/spinet")
    yield engine
    engine.close()


def test_what_a_served_model_says_of_itself(server, ask):
    assert ask(server.address, "describe") == Description(BANDS, 4)
    signatures = ask(server.address, "metadata")
    assert set(signatures) == {"serving_default", "uint8", "describe", "means", "with_means"}
    for name, dtype in (("serving_default", "float32"), ("uint8", "uint8")):
        assert signatures[name].inputs == {
            "images": Tensor("uint16", (-1, -1, -1, -1, 12)),
            "num_frames": Tensor("int32", (-1,)),
        }
        assert signatures[name].outputs == {"probabilities": Tensor(dtype, (-1, -1, -1, 1))}
    assert [(found.version, found.state) for found in ask(server.address, "status")] == [(2, "AVAILABLE")]
    ask(server.address, "wait_until_ready")


@pytest.fixture(scope="module")
def keras_engine(tiny_spinet):
    return KerasEngine(tiny_spinet)


@pytest.fixture(scope="module")
def predictions(keras_engine):
    """Images, how many frames are real, and what the Keras model says."""
    images = np.random.default_rng(0).integers(1, 9000, (2, 3, 5, 6, 12), np.uint16)
    num_frames = np.array([3, 1], np.int32)
    return images, num_frames, keras_engine.predict(images, num_frames)


@pytest.fixture(scope="module")
def map_in_process(keras_engine, scene):
    return predict_scene(keras_engine, scene, **SMALL)["probability"].to_numpy()


def test_predictions_are_the_keras_models(server, ask, predictions):
    images, num_frames, expected = predictions
    np.testing.assert_allclose(ask(server.address, "predict", images, num_frames), expected, rtol=0, atol=1e-5)
    steps = ask(server.address, "predict", images, num_frames, signature="uint8")
    np.testing.assert_allclose(steps / 254, expected, rtol=0, atol=0.5 / 254 + 1e-5)


@pytest.mark.parametrize("options", [SMALL, {**SMALL, "frames": "clearest", "count": 2}, {"seam_free": 8}])
def test_a_scene_by_the_client_equals_it_in_process_bit_by_bit(server, engine, scene, arrays, ask, options):
    """Both see the same tiles of the same frames, blended by the same code; the server answers both."""
    extra = {"origin": (-510000, 50000)} if "seam_free" in options else {}
    expected = predict_scene(engine, scene, batch=1, **options)["probability"].to_numpy()
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_array_equal(ask(server.address, "predict_scene", *arrays, **options, **extra), expected)


def test_a_scene_equals_the_keras_models(server, arrays, map_in_process, ask):
    probability = ask(server.address, "predict_scene", *arrays, **SMALL)
    np.testing.assert_allclose(probability, map_in_process, rtol=0, atol=1e-5)
    assert np.nanstd(probability) > 1e-4


def test_options_have_the_defaults_of_the_library():
    ours = inspect.signature(SceneMap.__init__).parameters
    theirs = inspect.signature(predict_scene).parameters
    options = [name for name, option in ours.items() if option.kind == option.KEYWORD_ONLY and name != "origin"]
    assert options == ["frames", "count", "max_cloud", "tile", "overlap", "seam_free", "means"]
    # The library looks at its own memory, which is not the server's.
    assert (ours["tile"].default, theirs["tile"].default) == (TILE, None)
    for name in set(options) - {"tile"}:
        assert ours[name].default == theirs[name].default


@pytest.mark.slow
def test_a_server_that_drains_and_starts_anew_costs_no_scene(server, model_dir, arrays):
    with Client(server.address) as client:
        expected = client.predict_scene(*arrays, **SMALL)
    servers = [Server(model_dir, port=0, warmup=False)]

    def restart(done, total):
        if done == 3:
            servers[0].stop()
            servers.append(Server(model_dir, port=int(servers[0].address.split(":")[1]), warmup=False))

    try:
        with Client(servers[0].address) as client:
            probability = client.predict_scene(*arrays, **SMALL, progress=restart)
        assert len(servers) == 2
        np.testing.assert_array_equal(probability, expected)
    finally:
        servers[-1].stop()


def test_spinet_predict_over_grpc_writes_the_map_of_the_model(server, map_in_process, scene, tmp_path):
    scene.to_netcdf(tmp_path / "field.nc", engine="h5netcdf")
    argv = [str(tmp_path / "field.nc"), "--model", f"grpc://{server.address}/spinet/2", "-o", str(tmp_path / "map.tif")]
    assert cli.main(["predict", *argv, "--tile", "10", "--overlap", "4"]) == 0
    with rasterio.open(tmp_path / "map.tif") as file:
        np.testing.assert_allclose(file.read(1), map_in_process, rtol=0, atol=1e-5)
        assert file.transform == TRANSFORM @ Affine.scale(1 / 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [("127.0.0.1:1/spinet", "No server answers at 127.0.0.1:1."), ("{}/other", "Servable not found for request")],
)
def test_failures_of_spinet_predict_are_one_line_and_leave_nothing(
    server, scene, tmp_path, capsys, hasty, model, message
):
    scene.to_netcdf(tmp_path / "field.nc", engine="h5netcdf")
    argv = ["predict", str(tmp_path / "field.nc"), "-o", str(tmp_path / "map.tif")]
    assert cli.main([*argv, "--model", f"grpc://{model.format(server.address)}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["field.nc"]
