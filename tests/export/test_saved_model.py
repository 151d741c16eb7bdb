"""The SavedModel answers as the Keras model, refuses what it must, and is never written by halves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import export.saved_model
from export.saved_model import export_saved_model, main
from export.verify import greatest_difference
from serving.session import SavedModelSession
from spinet_tf import BANDS, SPInet
from spinet_tf.errors import SpinetError


@pytest.fixture(scope="module")
def exported(tiny_spinet, tmp_path_factory):
    folder, difference = export_saved_model(tiny_spinet, tmp_path_factory.mktemp("models") / "spinet", version=3)
    assert difference <= 1e-5
    return folder


@pytest.fixture(scope="module")
def session(exported):
    with SavedModelSession(exported) as session:
        yield session


def request(batch=2, time=4, height=5, width=6, bands=12, num_frames=None):
    images = np.random.default_rng(3).integers(1, 10000, (batch, time, height, width, bands), np.uint16)
    return {"images": images, "num_frames": np.array(num_frames or [time] * batch, np.int32)}


def test_the_version_is_a_numbered_folder_and_nothing_else_is_left(exported):
    assert exported.name == "3"
    assert [path.name for path in exported.parent.iterdir()] == ["3"]


def test_signatures_are_the_serving_contract(session):
    signature = session.signatures["serving_default"]
    described = {
        name: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
        for name, info in [*signature.inputs.items(), *signature.outputs.items()]
    }
    assert described == {
        "images": ("uint16", [-1, -1, -1, -1, 12]),
        "num_frames": ("int32", [-1]),
        "probabilities": ("float32", [-1, -1, -1, 1]),
    }
    assert signature.method_name == "tensorflow/serving/predict"


def test_answers_equal_the_keras_model_on_reflectance(session, tiny_spinet):
    images, num_frames = request(batch=3, time=6, height=9, width=4, num_frames=[6, 1, 3]).values()
    answer = session.run({"images": images, "num_frames": num_frames})["probabilities"]
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]], bool)
    logits = keras.ops.convert_to_numpy(tiny_spinet({"images": images / np.float32(10000), "frame_mask": mask}))
    assert answer.shape == (3, 36, 16, 1)
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=0, atol=1e-6)


def test_padding_changes_nothing(session):
    sent = request(batch=1, time=5, num_frames=[3])
    alone = {"images": sent["images"][:, :3], "num_frames": sent["num_frames"]}
    padded = session.run(sent)["probabilities"]
    np.testing.assert_allclose(padded, session.run(alone)["probabilities"], rtol=0, atol=1e-6)


def test_stock_operations_only_and_none_compiled_for_one_shape(exported):
    definition = SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in definition.library.function}
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    operations = {node.op for node in nodes} - functions
    assert "Conv2D" in operations
    assert not {name for name in operations if name.startswith(("Xla", "PyFunc", "EagerPyFunc", "_"))}
    assert not any(node.attr["_XlaMustCompile"].b for node in nodes if "_XlaMustCompile" in node.attr)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": [0, 4]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[0 4\]"),
        ({"num_frames": [-1, 4]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[-1 4\]"),
        ({"num_frames": [4, 5]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[4 5\]"),
        ({"num_frames": [4]}, r"one num_frames per sample of a batch of\] \[2\] \[Received:\] \[4\]"),
        ({"num_frames": [4, 4, 4]}, r"one num_frames per sample of a batch of\] \[2\]"),
        ({"bands": 10}, r"images of 12 bands \(B01, .*B12\). Received the shape\] \[2 4 5 6 10\]"),
        ({"bands": 1}, r"images of 12 bands"),
        ({"bands": 24}, r"images of 12 bands"),
        ({"time": 0, "num_frames": [1, 1]}, r"at least one sample, frame, row and column.*\[2 0 5 6 12\]"),
        ({"height": 0}, "at least one sample, frame, row and column"),
        ({"batch": 0}, "at least one sample, frame, row and column"),
    ],
)
def test_the_graph_refuses_what_the_network_cannot_use(session, change, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(request(**change))


@pytest.mark.parametrize("rank", [4, 6])
def test_images_of_another_rank_are_refused(session, rank):
    sent = request()
    sent["images"] = sent["images"][0] if rank == 4 else sent["images"][None]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected"):
        session.run(sent)


def test_describe_names_the_bands_for_each_request(session):
    answer = session.run({"request": np.zeros(2, np.int32)}, "describe")
    assert answer["bands"].shape == (2, 12)
    assert [name.decode() for name in answer["bands"][1]] == list(BANDS)
    assert answer["scale"].tolist() == [4, 4]


def test_a_model_without_band_names_is_exported_and_says_so(tmp_path):
    model = SPInet(bands=3, scale=2, filters=8, tefa_blocks=1, bottleneck=2)
    folder, difference = export_saved_model(model, tmp_path)
    assert difference <= 1e-5
    with SavedModelSession(folder) as session:
        answer = session.run({"request": np.zeros(1, np.int32)}, "describe")
    assert answer["bands"].shape == (1, 0)
    assert answer["scale"].tolist() == [2]


def test_existing_version_is_kept_without_overwrite(exported, tiny_spinet):
    before = (exported / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(SpinetError, match="exists already"):
        export_saved_model(tiny_spinet, exported.parent, version=3)
    assert (exported / "saved_model.pb").stat().st_mtime_ns == before


def test_an_export_that_differs_is_not_written(tiny_spinet, tmp_path, monkeypatch):
    monkeypatch.setattr(export.saved_model, "greatest_difference", lambda *_: float("nan"))
    with pytest.raises(SpinetError, match="differ from the Keras model"):
        export_saved_model(tiny_spinet, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_writes_and_reports(tiny_spinet, tmp_path, capsys):
    tiny_spinet.save(tmp_path / "model.keras")
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out"), "--version", "7"]) == 0
    printed = capsys.readouterr().out
    assert "max |delta p|" in printed
    assert f"Wrote {tmp_path / 'out' / '7'}" in printed
    assert (tmp_path / "out" / "7" / "saved_model.pb").is_file()


@pytest.mark.parametrize("version", ["0", "-1"])
def test_command_refuses_a_version_below_1(tiny_spinet, tmp_path, capsys, version):
    tiny_spinet.save(tmp_path / "model.keras")
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out"), "--version", version]) == 1
    assert "version of 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_missing_model(tmp_path, capsys):
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out")]) == 1
    assert "Expected a .keras model file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_saved_model_and_a_damaged_one_are_refused(tmp_path):
    with pytest.raises(SpinetError, match=r"saved_model\.pb"):
        SavedModelSession(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"not a protocol buffer")
    with pytest.raises(SpinetError, match="Cannot load the SavedModel"):
        SavedModelSession(tmp_path)


def test_the_proof_notices_another_model_and_a_nan(exported):
    class Constant:
        def __init__(self, value):
            self.value = value

        def predict(self, images, num_frames):
            return np.full((1, 4 * images.shape[2], 4 * images.shape[3], 1), self.value, np.float32)

    assert 1 < greatest_difference(Constant(2.0), exported, 12) < 2
    assert np.isnan(greatest_difference(Constant(np.nan), exported, 12))
