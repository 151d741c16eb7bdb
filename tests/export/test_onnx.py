"""The ONNX file answers as the Keras model; operations that tf2onnx gets wrong are right."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from export.graph import Exportable
from export.onnx import export_onnx, main
from spinet_tf import SPInet
from spinet_tf.errors import SpinetError
from spinet_tf.inference.onnx_engine import OnnxEngine
from tests.export.conftest import BANDS
from tests.helpers import randomize

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
tf2onnx = pytest.importorskip("tf2onnx")


def images(batch=1, time=3, height=5, width=6, bands=3):
    return np.random.default_rng(3).integers(1, 10000, (batch, time, height, width, bands), np.uint16)


def numbers(*num_frames):
    return np.array(num_frames, np.int32)


def keras_probabilities(model, images, num_frames):
    mask = np.arange(images.shape[1]) < num_frames[:, None]
    answer = model({"images": images / np.float32(10000), "frame_mask": mask})
    logits = np.asarray(answer)[..., :1].astype(np.float64)
    return 1 / (1 + np.exp(-logits))


def test_the_contract_is_that_of_the_saved_model(onnx_file):
    proto = onnx.load(onnx_file)
    onnx.checker.check_model(proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in proto.opset_import if not opset.domain] == [("", 18)]
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    described = {value.name: (value.type, value.shape) for value in [*session.get_inputs(), *session.get_outputs()]}
    assert described == {
        "images": ("tensor(uint16)", ["batch", "time", "height", "width", 3]),
        "num_frames": ("tensor(int32)", ["batch"]),
        "probabilities": ("tensor(float)", ["batch", "fine_height", "fine_width", 1]),
        "uncertainty": ("tensor(float)", ["batch", "fine_height", "fine_width", 1]),
        "own_block_means": ("tensor(float)", ["batch", 1, 8]),
        "own_frame_means": ("tensor(float)", ["batch", "time", 8]),
    }
    left_out = {value.name: value.shape for value in session.get_overridable_initializers()}
    assert left_out == {"block_means": ["batch", 1, 8], "frame_means": ["batch", "time", 8]}
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["bands"]) == list(BANDS)
    assert (metadata["scale"], metadata["quantification"]) == ("4", "10000")
    assert metadata["made_with"].endswith("SPInet")


@pytest.mark.parametrize(
    ("shape", "num_frames"),
    [((1, 1, 8, 8), [1]), ((1, 4, 7, 9), [4]), ((3, 5, 3, 10), [5, 1, 2]), ((2, 21, 1, 1), [20, 21])],
)
def test_answers_equal_the_keras_model(onnx_file, model, shape, num_frames):
    sent = images(*shape), numbers(*num_frames)
    answer = OnnxEngine(onnx_file).predict(*sent)
    expected = keras_probabilities(model, *sent)
    assert answer.shape == expected.shape == (shape[0], 4 * shape[2], 4 * shape[3], 1)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-4)


def test_what_the_saved_model_refuses_cannot_pass_for_a_map(onnx_file):
    engine = OnnxEngine(onnx_file)
    sent = images(batch=4)
    answer = engine.predict(sent, numbers(0, 3, 4, -2))
    assert np.isnan(answer[[0, 2, 3]]).all()
    np.testing.assert_allclose(answer[1:2], engine.predict(sent[1:2], numbers(3)), rtol=0, atol=1e-4)
    for wrong in (images(bands=2), images()[0], images().astype(np.float32)):
        with pytest.raises(Exception, match=r"INVALID_ARGUMENT|Invalid"):
            engine.predict(wrong, numbers(3))
    with pytest.raises(Exception, match=r"BroadcastIterator|broadcast"):
        engine.predict(images(batch=3), numbers(3, 3))


def test_plain_fusion_and_several_heads_convert_too(tmp_path):
    model = randomize(SPInet(bands=2, scale=2, filters=8, tefa_blocks=0, bottleneck=2, heads=2, fusion="plain"))
    # `export_onnx` itself compares one frame, odd sizes and padded batches with the Keras model.
    assert export_onnx(model, tmp_path / "model.onnx") <= 1e-4
    engine = OnnxEngine(tmp_path / "model.onnx")
    assert (engine.band_names, engine.bands, engine.scale) == (None, 2, 2)


def test_a_model_in_bfloat16_leaves_in_float32(model, rng):
    mixed = SPInet.from_config({**model.get_config(), "dtype": "mixed_bfloat16"})
    mixed.set_weights(model.get_weights())
    exportable = Exportable(mixed)
    assert {layer.compute_dtype for layer in exportable.model.layers} == {"float32"}
    sent = images(), numbers(2)
    np.testing.assert_allclose(exportable.predict(*sent), keras_probabilities(model, *sent), rtol=0, atol=1e-5)


def converted(function, *arrays, shapes):
    """Run `function` as ONNX, converted with the handlers and these shapes."""
    from export.onnx_operations import HANDLERS

    signature = [
        tf.TensorSpec(shape, array.dtype, f"input_{n}")
        for n, (array, shape) in enumerate(zip(arrays, shapes, strict=True))
    ]
    proto, _ = tf2onnx.convert.from_function(tf.function(function), signature, opset=18, custom_op_handlers=HANDLERS)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {f"input_{n}": array for n, array in enumerate(arrays)})[0]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_floor_division_rounds_down(dtype):
    dividend, divisor = np.meshgrid(np.arange(-9, 10), [-8, -3, -1, 1, 3, 8])
    dividend, divisor = dividend.astype(dtype), divisor.astype(dtype)
    answer = converted(lambda a, b: a // b, dividend, divisor, shapes=[[None, None], [None, None]])
    np.testing.assert_array_equal(answer, dividend // divisor)


@pytest.mark.parametrize(("side", "channels"), [((5, 5), 7), ((3, 5), 1), ((1, 3), 4)])
def test_depthwise_convolution_with_computed_filters(rng, side, channels):
    x = rng.normal(size=(2, 6, 9, channels)).astype(np.float32)
    filters = rng.normal(size=(*side, channels, 1)).astype(np.float32)

    def function(x, filters):
        return tf.nn.depthwise_conv2d(x, filters, [1, 1, 1, 1], "SAME")

    answer = converted(function, x, filters, shapes=[[None] * 4, [*side, None, 1]])
    expected = np.zeros_like(x)
    padded = np.pad(x, ((0, 0), (side[0] // 2,) * 2, (side[1] // 2,) * 2, (0, 0)))
    for i in range(side[0]):
        for j in range(side[1]):
            expected += padded[:, i : i + 6, j : j + 9] * filters[i, j, :, 0]
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


def test_existing_file_is_kept_without_overwrite(model, tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(SpinetError, match="exists already"):
        export_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "mine"


@pytest.mark.parametrize("missing", ["onnx", "tf2onnx"])
def test_missing_packages_are_named_with_the_extra(run, tmp_path, capsys, monkeypatch, missing):
    for name in [name for name in sys.modules if name == missing or name.startswith((f"{missing}.", "export.onnx_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([str(run.model), str(tmp_path / "model.onnx")]) == 1
    assert "pip install 'spinet-tf[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_runtime_is_named_with_the_extra(onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SpinetError, match=r"spinet-tf\[onnx\]"):
        OnnxEngine(onnx_file)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.onnx").write_text("not a model")
    with pytest.raises(SpinetError, match=r"Cannot load .* as an ONNX file"):
        OnnxEngine(tmp_path / "model.onnx")
