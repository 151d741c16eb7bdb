"""The command line, from arguments to files and exit codes."""

import errno
from pathlib import Path

import grpc
import numpy as np
import pytest
from spinet_client import Client
from spinet_client.cli import main

from tests.serving.client.fake import BANDS, SCALE


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    images = np.random.default_rng(2).integers(1, 10000, (3, 9, 10, len(BANDS)), np.uint16)
    valid = np.ones(images.shape[:3], bool)
    valid[1] = False
    np.save(folder / "images.npy", images)
    np.savez(folder / "scene.npz", images=images, valid=valid)
    np.savez(folder / "images.npz", images=images)
    np.savez(folder / "empty.npz", valid=valid)
    np.save(folder / "objects.npy", np.array([{}], object))
    (folder / "text.npy").write_text("no array")
    (folder / "text.npz").write_bytes(b"PK\x03\x04 no archive")
    return folder


def test_status(fake, capsys):
    fake.states = [[{"version": 9, "state": "END", "status": {"error_message": "broken"}}, *fake.states[0]]]
    assert main(["status", "--server", fake.address]) == 0
    assert capsys.readouterr().out == "version 7  AVAILABLE\nversion 9  END  broken\n"


def test_status_says_by_its_exit_code_that_nothing_is_available(fake, capsys):
    fake.states = [[{"version": 9, "state": "LOADING"}]]
    assert main(["status", "--server", fake.address]) == 1
    assert capsys.readouterr().out == "version 9  LOADING\n"


def test_status_waits(fake, hasty, capsys):
    fake.states = [[], [], *fake.states]
    assert main(["status", "--server", fake.address, "--wait", "60"]) == 0
    assert capsys.readouterr().out == "version 7  AVAILABLE\n"


def test_describe(fake, capsys):
    assert main(["describe", "--server", fake.address, "--model", "fields/3"]) == 0
    assert capsys.readouterr().out == (
        "bands       B02 B04 B08\n"
        "scale       2\n"
        "signature   serving_default: images uint16 [?, ?, ?, ?, 3] -> probabilities float32 [...]\n"
    )
    assert {(r.model_spec.name, r.model_spec.version.value) for r in fake.requests} == {("fields", 3)}


@pytest.mark.parametrize(("name", "with_valid"), [("images.npy", False), ("images.npz", False), ("scene.npz", True)])
def test_predict(fake, scene, tmp_path, capsys, name, with_valid):
    output = tmp_path / "map.npy"
    options = ["--tile", "6", "--overlap", "2", "--max-cloud", "0.5", "--concurrency", "2"]
    assert main(["predict", str(scene / name), "-o", str(output), "--server", fake.address, *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"Wrote {output}: {9 * SCALE} x {10 * SCALE} pixels\n"
    assert captured.err == ""
    written = np.load(output, allow_pickle=False)
    with np.load(scene / "scene.npz") as arrays, Client(fake.address) as client:
        valid = arrays["valid"] if with_valid else None
        expected = client.predict_scene(arrays["images"], valid, tile=6, overlap=2, max_cloud=0.5)
    np.testing.assert_array_equal(written, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["map.npy"]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ([], (1, 3, 9, 10, 3)),
        (["--frames", "clearest", "--count", "1"], (1, 1, 9, 10, 3)),
        (["--tile", "4", "--overlap", "0", "--means", "tile"], (1, 3, 4, 4, 3)),
        (["--max-cloud", "0"], (1, 2, 9, 10, 3)),
        (["--seam-free"], (1, 3, 32, 32, 3)),
        (["--seam-free", "8"], (1, 3, 8, 8, 3)),
    ],
)
def test_options_of_predict_reach_the_requests(fake, scene, tmp_path, options, shape):
    name = "scene.npz" if "--max-cloud" in options else "images.npy"
    argv = ["predict", str(scene / name), "-o", str(tmp_path / "map.npy"), "--server", fake.address, *options]
    assert main(argv) == 0
    images = [request.inputs["images"] for request in fake.requests if "images" in getattr(request, "inputs", ())]
    assert {tuple(dim.size for dim in tensor.tensor_shape.dim) for tensor in images} == {shape}


def test_progress_is_shown_in_a_terminal_only(fake, scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    argv = ["predict", str(scene / "images.npy"), "-o", str(tmp_path / "map.npy"), "--server", fake.address]
    assert main([*argv, "--tile", "9", "--overlap", "2"]) == 0
    assert capsys.readouterr().err == "\r1 of 4 tiles\r2 of 4 tiles\r3 of 4 tiles\r4 of 4 tiles\n"


def failure(capsys, *argv, code=1):
    assert main([str(argument) for argument in argv]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("name", ["missing.npy", "empty.npz", "objects.npy", "text.npy", "text.npz"])
def test_files_that_cannot_be_read_are_refused(fake, scene, tmp_path, capsys, name):
    error = failure(capsys, "predict", scene / name, "-o", tmp_path / "map.npy", "--server", fake.address)
    assert error.startswith(f"error: Cannot read {scene / name}: ")
    assert "Expected .npy with images" in error
    assert not fake.requests
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_refused_before_the_server_is_asked(fake, scene, tmp_path, capsys):
    (tmp_path / "map.npy").write_text("mine")
    argv = ["predict", scene / "images.npy", "-o", tmp_path / "map.npy", "--server", fake.address]
    assert "exists already. Choose another output or pass --overwrite" in failure(capsys, *argv)
    assert not fake.requests
    assert (tmp_path / "map.npy").read_text() == "mine"
    assert main([*map(str, argv), "--overwrite"]) == 0
    assert np.load(tmp_path / "map.npy").shape == (18, 20)


def test_an_output_that_cannot_be_written_is_refused(fake, scene, tmp_path, capsys):
    argv = ["predict", scene / "images.npy", "-o", tmp_path / "missing" / "map.npy", "--server", fake.address]
    assert "error: Cannot write" in failure(capsys, *argv)
    assert not fake.requests


def test_a_full_disk_leaves_what_was_there(fake, scene, tmp_path, capsys, monkeypatch):
    def save(file, array):
        open(file, "wb").close() if isinstance(file, Path) else file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "map.npy").write_text("mine")
    monkeypatch.setattr(np, "save", save)
    argv = ["predict", scene / "images.npy", "-o", tmp_path / "map.npy", "--server", fake.address, "--overwrite"]
    assert "map.npy: No space left on device. Choose another output" in failure(capsys, *argv)
    assert [path.name for path in tmp_path.iterdir()] == ["map.npy"]
    assert (tmp_path / "map.npy").read_text() == "mine"


def test_failures_leave_nothing(fake, scene, tmp_path, capsys):
    fake.failures = [None, (grpc.StatusCode.INVALID_ARGUMENT, "no")]
    argv = ["predict", scene / "images.npy", "-o", tmp_path / "map.npy", "--server", fake.address]
    assert "refused the request (INVALID_ARGUMENT): no" in failure(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_no_server_and_other_arguments_are_one_line(hasty, capsys):
    assert "No server answers at 127.0.0.1:1." in failure(capsys, "status", "--server", "127.0.0.1:1")
    assert "Expected host:port" in failure(capsys, "describe", "--server", "nowhere")
    assert "Expected a model as name" in failure(capsys, "describe", "--model", "/")


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(fake, scene, tmp_path, capsys):
    fake.versions = [1, 1, 2]
    argv = ["predict", str(scene / "images.npy"), "-o", str(tmp_path / "map.npy"), "--server", fake.address]
    assert main([*argv, "--tile", "9", "--overlap", "2"]) == 0
    assert capsys.readouterr().err.startswith("warning: The map was made by the versions 1, 2")


def test_an_interrupted_command(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "status", interrupt)
    assert failure(capsys, "status", code=130) == "interrupted\n"


@pytest.mark.parametrize("command", [[], ["status"], ["describe"], ["predict"]])
def test_help_has_examples_and_the_environment(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert "example" in shown
    assert " ".join(["spinet-client", *command]) in shown
    assert "SPINET_TOKEN" in shown
