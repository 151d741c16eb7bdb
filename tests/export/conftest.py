"""One small model with weights at random and uncertainty, in every form it is exported to."""

from types import SimpleNamespace

import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from export.onnx import export_onnx
from export.saved_model import export_saved_model
from export.warmup import FILE
from serving.session import SavedModelSession
from spinet_tf import SPInet
from tests.helpers import randomize

BANDS = ("B02", "B04", "B08")


@pytest.fixture(scope="package")
def model():
    return randomize(SPInet(bands=BANDS, filters=8, tefa_blocks=1, bottleneck=2, uncertainty=True))


@pytest.fixture(scope="package")
def run(model, tmp_path_factory):
    """What training and evaluation leave: the model, its configuration and its scores."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    (folder / "evaluation").mkdir(parents=True)
    model.save(folder / "best.keras")
    (folder / "config.yaml").write_text("epochs: 7\nlearning_rate: 0.003\n")
    (folder / "evaluation" / "scores.md").write_text("| scene | MCC |\n|---|---|\n| mean | 0.865 |\n")
    return SimpleNamespace(model=folder / "best.keras", folder=folder)


@pytest.fixture(scope="package")
def version(model, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "spinet"
    version, difference = export_saved_model(
        model, folder, version=3, source=run.model, warmup_lengths=[1, 3], warmup_sizes=[4, 8]
    )
    assert difference <= 1e-4
    return version


@pytest.fixture(scope="package")
def session(version):
    with SavedModelSession(version) as session:
        yield session


@pytest.fixture(scope="package")
def onnx_file(model, tmp_path_factory):
    pytest.importorskip("tf2onnx")
    path = tmp_path_factory.mktemp("onnx") / "spinet.onnx"
    assert export_onnx(model, path) <= 1e-4
    return path


def warmup_requests(directory):
    """(signature, inputs) of every warm-up request, the tensors read by TensorFlow's own C++ code."""
    for record in tf.data.TFRecordDataset(str(directory / FILE)):
        log = PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        yield (
            request.model_spec.signature_name,
            {
                name: tf.io.parse_tensor(proto.SerializeToString(), proto.dtype).numpy()
                for name, proto in request.inputs.items()
            },
        )
