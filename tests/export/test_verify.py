"""The proof agrees where files are right, and notices where they are not."""

import re

import numpy as np
import pytest
import tensorflow as tf

import export.verify
from export.comparison import (
    EXPORT_SIZES,
    PROOF_SIZES,
    Request,
    SavedModelEngine,
    alone,
    difference,
    limit,
    random_requests,
    with_other_means,
    with_uncertainty,
)
from export.graph import Exportable
from export.verify import Finding, Way, _examine, main
from spinet_tf import SPInet
from tests.helpers import randomize


def drawn(seed, sizes=PROOF_SIZES, frames=None):
    return {request.name: request for request in random_requests(np.random.default_rng(seed), 2, sizes, frames)}


# === Requests ===


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sizes", [EXPORT_SIZES, PROOF_SIZES])
def test_requests_cover_one_frame_odd_sizes_and_padding(seed, sizes):
    requests = drawn(seed, sizes)
    assert requests["one frame"].images.shape[1] == 1
    _, time, height, width, _ = requests["odd sizes"].images.shape
    assert height % 2 == width % 2 == 1
    assert time > 1
    for name in ("padded by first element", "padded by noise"):
        request = requests[name]
        assert request.images.shape[1] == max(request.num_frames) > min(request.num_frames)
    for request in requests.values():
        assert request.images.dtype == np.uint16
        assert set(request.images.shape[2:4]) <= set(sizes)
        assert request.num_frames.dtype == np.int32
        assert len(request.num_frames) == len(request.images)
    request = requests["padded by first element"]
    for sample, real in zip(request.images, request.num_frames, strict=True):
        np.testing.assert_array_equal(sample[real:], sample[0, 0, 0, 0])
        assert sample[:real].std() > 0


def test_the_proof_uses_sizes_that_the_export_was_not_checked_with():
    assert not set(EXPORT_SIZES) & set(PROOF_SIZES)


def test_a_seed_decides_the_requests():
    first, again, other = drawn(5), drawn(5), drawn(6)
    for name, request in first.items():
        np.testing.assert_array_equal(request.images, again[name].images)
    assert any(request.images.shape != other[name].images.shape for name, request in first.items())


def test_requests_for_a_fixed_number_of_frames():
    for request in drawn(0, frames=3).values():
        assert request.images.shape[1] == 3
        assert max(request.num_frames) <= 3


# === Measures ===


def test_difference_and_limit():
    expected = np.array([0.25, 0.5])
    assert difference(expected, np.array([0.25, 0.375])) == 0.125
    assert np.isnan(difference(expected, np.array([0.25, np.nan])))
    assert np.isnan(difference(expected, np.array([[0.25, 0.5]])))
    assert limit(expected) == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("change", "rounding", "failed"),
    [(0, 0, False), (0.9e-4, 0, False), (1.1e-4, 0, True), (1.1e-4, 1e-3, False), (np.nan, 0, True), (np.nan, 1, True)],
)
def test_what_fails(model, change, rounding, failed):
    exportable = Exportable(model)
    request = random_requests(np.random.default_rng(0), 3, EXPORT_SIZES)[0]
    expected = exportable.predict(request.images, request.num_frames)
    assert expected.max() > 0.5
    way = Way(
        "other",
        lambda images, num_frames: exportable.predict(images, num_frames) + change * expected.max(),
        exportable.predict,
        rounding,
    )
    finding = _examine(request, [way])
    assert finding.failed == ({"other"} if failed else set())
    assert finding.greatest == expected.max()


def test_alone_shows_no_padding():
    shown = []

    class Engine:
        def predict(self, images, num_frames):
            shown.append((images.shape, num_frames.tolist()))
            return images[:, :1, :, :, 0]

    images = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2, 1)
    answer = alone(Engine())(images, np.array([1, 3]))
    assert shown == [((1, 1, 2, 2, 1), [1]), ((1, 3, 2, 2, 1), [3])]
    np.testing.assert_array_equal(answer, images[:, :1, :, :, 0])


# === The command ===


def test_command_proves_every_way_and_prints_the_table(run, version, onnx_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([str(run.model), str(version), "--onnx", str(onnx_file)]) == 0
    printed = capsys.readouterr().out
    ways = ["TF1", "gRPC", "uint8", "ONNX", "each alone"]
    for way in [*ways, "TF1 means", "gRPC means", "ONNX means"]:
        (row,) = (line for line in printed.splitlines() if re.match(rf"\W*{way} *\d", line))
        assert len(re.findall(r"\d\.\de[-+]\d\d", row)) == 5
    assert len(re.findall(r"\d+x\d+x\d+x\d+", printed)) == 5
    assert "FAIL" not in printed
    assert re.search(r"Seed \d+: all answers agree", printed)


def test_the_files_of_another_model_fail(model, version):
    other = SPInet.from_config(model.get_config())
    other.set_weights(model.get_weights())
    kernel = other.get_layer("upsampling").kernel
    kernel.assign(kernel * 1.01)
    request = random_requests(np.random.default_rng(0), 3, EXPORT_SIZES)[1]
    with SavedModelEngine(version) as engine:
        for wrong, keras_model in ((False, Exportable(model)), (True, Exportable(other))):
            ways = [
                Way("SavedModel", engine.predict, keras_model.predict),
                Way("uint8", engine.predict_uint8, with_uncertainty(keras_model), rounding=0.5 / 254),
                Way("means", with_other_means(engine), with_other_means(keras_model)),
            ]
            failed = _examine(request, ways).failed
            assert failed >= {"SavedModel", "means"} if wrong else not failed


def test_command_fails_where_answers_differ(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    request = Request("odd sizes", np.zeros((1, 2, 3, 5, 2), np.uint16), np.array([2], np.int32))
    finding = Finding(request, 0.75, {"SavedModel": 2e-7, "gRPC": 0.5}, {"gRPC"})
    monkeypatch.setattr(export.verify, "verify", lambda *_: [finding])
    assert main(["best.keras", "models/spinet/1", "--seed", "4"]) == 1
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert "1x2x3x5" in printed
    assert ["SavedModel", "2.0e-07"] in rows
    assert ["gRPC", "5.0e-01", "FAIL"] in rows
    assert ["greatest", "p", "0.750"] in rows
    assert "Seed 4: 1 of the answers differ" in printed


def test_command_refuses_a_model_of_other_bands(version, tmp_path, capsys):
    randomize(SPInet(bands=4, filters=8, tefa_blocks=0, bottleneck=2)).save(tmp_path / "other.keras")
    assert main([str(tmp_path / "other.keras"), str(version)]) == 1
    error = capsys.readouterr().err
    assert "Expected files made from one model" in error
    assert "(('B02', 'B04', 'B08'), 4), the .keras file (4, 4)" in error


def test_command_refuses_a_saved_model_of_others(run, tmp_path, capsys):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def serve(self, x):
            return x

    module = Module()
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.serve})
    assert main([str(run.model), str(tmp_path)]) == 1
    assert "lacks the signature describe and uint8: export the model again" in capsys.readouterr().err


def test_command_refuses_a_negative_seed(capsys):
    assert main(["best.keras", "models/spinet/1", "--seed", "-1"]) == 1
    assert "seed of 0 or more. Received: -1" in capsys.readouterr().err


def test_command_refuses_what_is_no_saved_model(run, tmp_path, capsys):
    assert main([str(run.model), str(tmp_path)]) == 1
    assert "Expected a SavedModel folder with saved_model.pb" in capsys.readouterr().err
