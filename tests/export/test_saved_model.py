"""The SavedModel answers as the Keras model, refuses what it must, and is never written by halves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import export.comparison
import export.saved_model
from export.graph import as_uint8
from export.onnx import export_onnx
from export.saved_model import export_saved_model, main
from serving.session import SavedModelSession
from spinet_tf import RAMS, PIUnet, SPInet
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.onnx_engine import OnnxEngine
from spinet_tf.tiling import Means
from tests.export.conftest import BANDS, warmup_requests
from tests.helpers import randomize


def request(batch=2, time=4, height=5, width=6, bands=3, num_frames=None):
    images = np.random.default_rng(3).integers(1, 10000, (batch, time, height, width, bands), np.uint16)
    return {"images": images, "num_frames": np.array(num_frames or [time] * batch, np.int32)}


def logits(model, images, mask):
    inputs = {"images": images / np.float32(10000), "frame_mask": np.array(mask, bool)}
    return np.asarray(model(inputs))[..., :1].astype(np.float64)


def test_the_version_is_a_numbered_folder_and_nothing_else_is_left(version):
    assert [path.name for path in version.parent.iterdir()] == ["3"]
    files = {path.name for path in version.iterdir()}
    assert files >= {"saved_model.pb", "variables", "assets.extra", "README.md", "stac-item.json"}


def test_signatures_are_the_serving_contract(session):
    def described(name):
        signature = session.signatures[name]
        assert signature.method_name == "tensorflow/serving/predict"
        return {
            name: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
            for name, info in [*signature.inputs.items(), *signature.outputs.items()]
        }

    inputs = {"images": ("uint16", [-1, -1, -1, -1, 3]), "num_frames": ("int32", [-1])}
    answers = {name: ("float32", [-1, -1, -1, 1]) for name in ("probabilities", "uncertainty")}
    assert described("serving_default") == {**inputs, **answers}
    means = {"block_means": ("float32", [-1, 1, 8]), "frame_means": ("float32", [-1, -1, 8])}
    assert described("means") == {**inputs, **means}
    assert described("with_means") == {**inputs, **means, **answers}
    assert described("uint8") == {**inputs, **{name: ("uint8", [-1, -1, -1, 1]) for name in answers}}


def test_answers_equal_the_keras_model_on_reflectance(session, model):
    sent = request(batch=3, time=6, height=9, width=4, num_frames=[6, 1, 3])
    answer = session.run(sent)["probabilities"]
    mask = [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
    expected = 1 / (1 + np.exp(-logits(model, sent["images"], mask)))
    assert answer.shape == (3, 36, 16, 1)
    assert expected.std() > 0.05
    np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-5)


def test_a_tile_can_have_the_means_of_others(session, model):
    sent = request(batch=2, time=3, height=7, width=5, num_frames=[3, 2])
    keras_engine = KerasEngine(model)
    means = session.run(sent, "means")
    expected = keras_engine.find_means(**sent)
    np.testing.assert_allclose(means["block_means"], expected.blocks, atol=1e-5)
    np.testing.assert_allclose(means["frame_means"], expected.frames, atol=1e-5)
    given = {name: values[::-1].copy() for name, values in means.items()}
    given["frame_means"][:, 1] = np.nan
    answer = session.run({**sent, **given}, "with_means")
    expected = keras_engine.predict_with_means(
        **sent, means=Means(given["block_means"], given["frame_means"]), uncertainty=True
    )
    for feature, name in enumerate(("probabilities", "uncertainty")):
        np.testing.assert_allclose(answer[name][..., 0], expected[..., feature], rtol=0, atol=2e-5)
        assert np.abs(answer[name] - session.run(sent)[name]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "shape"),
    [("block_means", (1, 1, 8)), ("block_means", (2, 2, 8)), ("frame_means", (2, 5, 8)), ("frame_means", (2, 4, 7))],
)
def test_means_of_another_shape_are_refused(session, name, shape):
    means = {"block_means": np.zeros((2, 1, 8), np.float32), "frame_means": np.zeros((2, 4, 8), np.float32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"Expected {name} of shape|{name}"):
        session.run({**request(), **means, name: np.zeros(shape, np.float32)}, "with_means")


def test_a_single_pixel_of_a_single_frame_is_answered(session, model):
    sent = request(batch=1, time=1, height=1, width=1)
    expected = 1 / (1 + np.exp(-logits(model, sent["images"], [[1]])))
    np.testing.assert_allclose(session.run(sent)["probabilities"], expected, rtol=0, atol=2e-5)


def test_padding_changes_nothing(session):
    sent = request(batch=1, time=5, num_frames=[3])
    alone = {"images": sent["images"][:, :3], "num_frames": sent["num_frames"]}
    padded = session.run(sent)["probabilities"]
    np.testing.assert_allclose(padded, session.run(alone)["probabilities"], rtol=0, atol=2e-5)


def test_uint8_is_the_probability_in_steps_of_1_in_254(session):
    sent = request(batch=2, time=3, num_frames=[3, 2])
    for name, least_range in (("probabilities", 100), ("uncertainty", 10)):
        fine, coarse = session.run(sent)[name], session.run(sent, "uint8")[name]
        assert coarse.dtype == np.uint8
        assert coarse.shape == fine.shape
        assert np.ptp(coarse) > least_range
        # A value within rounding of a half may go either way; both are within half a step of the number.
        assert np.abs(coarse / 254 - fine.astype(np.float64)).max() <= 0.5 / 254 + 1e-5


def test_uint8_leaves_255_free_and_has_one_half():
    p = tf.constant([0, 0.49 / 254, 0.51 / 254, 0.5, 253.4 / 254, 253.6 / 254, 1])
    assert as_uint8(p).numpy().tolist() == [0, 0, 1, 127, 253, 254, 254]


def test_stock_operations_only_and_none_compiled_for_one_shape(version):
    definition = SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = {function.signature.name for function in definition.library.function}
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    operations = {node.op for node in nodes} - functions
    assert "Conv2D" in operations
    assert not {name for name in operations if name.startswith(("Xla", "PyFunc", "EagerPyFunc", "_"))}
    assert not any(node.attr["_XlaMustCompile"].b for node in nodes if "_XlaMustCompile" in node.attr)


REFUSED = [
    ({"num_frames": [0, 4]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[0 4\]"),
    ({"num_frames": [-1, 4]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[-1 4\]"),
    ({"num_frames": [4, 5]}, r"num_frames from 1 to the number of frames,\] \[4\] \[Received:\] \[4 5\]"),
    ({"num_frames": [4]}, r"one num_frames per sample of a batch of\] \[2\] \[Received:\] \[4\]"),
    ({"num_frames": [4, 4, 4]}, r"one num_frames per sample of a batch of\] \[2\]"),
    ({"bands": 10}, r"images of 3 bands \(B02, B04, B08\). Received the shape\] \[2 4 5 6 10\]"),
    ({"bands": 1}, r"images of 3 bands"),
    ({"bands": 6}, r"images of 3 bands"),
    ({"bands": 0}, r"at least one sample, frame, row and column.*\[2 4 5 6 0\]"),
    ({"time": 0, "num_frames": [1, 1]}, r"at least one sample, frame, row and column.*\[2 0 5 6 3\]"),
    ({"height": 0}, "at least one sample, frame, row and column"),
    ({"width": 0}, "at least one sample, frame, row and column"),
    ({"batch": 0}, "at least one sample, frame, row and column"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
@pytest.mark.parametrize("signature", ["serving_default", "uint8"])
def test_the_graph_refuses_what_the_network_cannot_use(session, change, message, signature):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(request(**change), signature)


@pytest.mark.parametrize("rank", [4, 6])
def test_images_of_another_rank_are_refused(session, rank):
    sent = request()
    sent["images"] = sent["images"][0] if rank == 4 else sent["images"][None]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected"):
        session.run(sent)


def test_describe_names_the_bands_for_each_request(session):
    answer = session.run({"request": np.zeros(2, np.int32)}, "describe")
    assert answer["bands"].shape == (2, 3)
    assert tuple(name.decode() for name in answer["bands"][1]) == BANDS
    assert answer["scale"].tolist() == [4, 4]


def test_a_plain_model_without_band_names_is_exported_and_says_so(tmp_path):
    model = randomize(SPInet(bands=2, scale=2, filters=8, tefa_blocks=0, bottleneck=2, fusion="plain"))
    folder, difference = export_saved_model(model, tmp_path, warmup_lengths=[1], warmup_sizes=[4])
    assert difference <= 2e-5
    with SavedModelSession(folder) as session:
        answer = session.run({"request": np.zeros(1, np.int32)}, "describe")
    assert answer["bands"].shape == (1, 0)
    assert answer["scale"].tolist() == [2]


def test_a_model_of_fixed_length_is_exported_and_refuses_other_lengths(tmp_path):
    model = randomize(RAMS(bands=BANDS, scale=2, filters=8, blocks=1, frames=3))
    folder, _ = export_saved_model(model, tmp_path, warmup_sizes=[4])
    assert {inputs["images"].shape[1] for _, inputs in warmup_requests(folder) if inputs.keys() > {"images"}} == {3}
    with SavedModelSession(folder) as session:
        sent = request(time=3, num_frames=[3, 2])
        expected = 1 / (1 + np.exp(-logits(model, sent["images"], [[1, 1, 1], [1, 1, 0]])))
        np.testing.assert_allclose(session.run(sent)["probabilities"], expected, rtol=0, atol=2e-5)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"3 bands .* and 3 frames\..*\[2 4 5 6 3\]"):
            session.run(request(time=4))
    pytest.importorskip("tf2onnx")
    export_onnx(model, tmp_path / "model.onnx")
    answer = OnnxEngine(tmp_path / "model.onnx").predict(**sent)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-5)


def test_existing_version_is_kept_without_overwrite(version, model):
    before = (version / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(SpinetError, match=r"exists already\. Pass --version 4, or --overwrite"):
        export_saved_model(model, version.parent, version=3)
    assert (version / "saved_model.pb").stat().st_mtime_ns == before


@pytest.fixture
def quick(monkeypatch):
    """An archive written in no time, for tests of what happens around it."""

    class Archive:
        def write_out(self, path, verbose):
            tf.io.gfile.makedirs(path)

    class Engine:
        def __init__(self, directory):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def predict(self, images, num_frames):
            return np.zeros((len(images), 4 * images.shape[2], 4 * images.shape[3], 1), np.float32)

    monkeypatch.setattr(export.saved_model, "_archive", lambda _: Archive())
    monkeypatch.setattr(export.saved_model, "SavedModelEngine", Engine)


@pytest.mark.usefixtures("quick")
def test_an_export_that_differs_is_not_written(model, tmp_path):
    with pytest.raises(SpinetError, match=r"probabilities differ .*\(one frame\).* Nothing was written"):
        export_saved_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_server_that_watches_never_sees_half_a_version(model, tmp_path, monkeypatch):
    seen = []

    def prove(*_):
        (temporary,) = tmp_path.iterdir()
        seen.append((temporary.name, sorted(path.name for path in (temporary / "1").iterdir())))
        return 0.0

    monkeypatch.setattr(export.saved_model, "prove_equal", prove)
    assert export_saved_model(model, tmp_path)[0] == tmp_path / "1"
    # Everything was there before the name was, and the earlier name is no number.
    ((name, files),) = seen
    assert not name.isdecimal()
    assert files == sorted(path.name for path in (tmp_path / "1").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.usefixtures("quick")
def test_command_writes_and_reports(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export.saved_model, "prove_equal", lambda *_: 1e-7)
    arguments = ["--version", "7", "--warmup-lengths", "2", "--warmup-sizes", "4", "6"]
    assert main([str(run.model), str(tmp_path / "out"), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "max |delta p| = 1.0e-07" in printed
    assert f"Wrote {tmp_path / 'out' / '7'}" in printed
    assert "learning_rate: 0.003" in (tmp_path / "out" / "7" / "README.md").read_text()
    warmup = tmp_path / "out" / "7" / "assets.extra" / "tf_serving_warmup_requests"
    assert sum(1 for _ in tf.data.TFRecordDataset(str(warmup))) == 6


@pytest.mark.parametrize("version", ["0", "-1", str(2**63)])
def test_command_refuses_a_version_that_is_not_one(run, tmp_path, capsys, version):
    assert main([str(run.model), str(tmp_path / "out"), "--version", version]) == 1
    assert f"version of 1 or more. Received: {version}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_missing_model(tmp_path, capsys):
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out")]) == 1
    assert "Expected a .keras model file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_folder_that_cannot_be_written(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([str(run.model), str(tmp_path / "file" / "out")]) == 1
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda: keras.Sequential([keras.Input((2,))]), lambda: PIUnet(3, 8, 0, 2)])
def test_other_models_are_refused(tmp_path, make):
    with pytest.raises(SpinetError, match="Expected a segmentation model such as SPInet"):
        export_saved_model(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_backend_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SpinetError, match=r"needs the TensorFlow backend of Keras. Received: jax"):
        export_saved_model(model, tmp_path)


def test_a_folder_without_saved_model_and_a_damaged_one_are_refused(tmp_path):
    with pytest.raises(SpinetError, match=r"saved_model\.pb"):
        SavedModelSession(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"not a protocol buffer")
    with pytest.raises(SpinetError, match="Cannot load the SavedModel"):
        SavedModelSession(tmp_path)
