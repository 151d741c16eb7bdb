"""Versions come and go while the server serves; configurations, policies and labels decide which answers."""

import os
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server import Server
from serving.session import SavedModelSession
from serving.warmup import FILE, MOST_RECORDS
from spinet_tf.errors import SpinetError
from tests.serving.requests import offset, predict_request, refusal, states, toy_request


@pytest.fixture
def serve(connect):
    """A function from models to a server, which looks for versions a hundred times a second, and a stub and channel."""
    servers = []

    def start(models, **options):
        servers.append(Server(models, "toy", port=0, **{"poll": 0.01, **options}))
        return servers[-1], *connect(servers[-1].address)

    yield start
    for server in servers:
        server.stop()


def config_of(base_path, policy="", labels=None, name="toy", platform="tensorflow"):
    labels = "".join(f'version_labels {{ key: "{key}" value: {value} }} ' for key, value in (labels or {}).items())
    policy = f"model_version_policy {{ {policy} }}" if policy else ""
    config = f'name: "{name}" base_path: "{base_path}" model_platform: "{platform}" {policy} {labels}'
    return text_format.Parse(f"model_config_list {{ config {{ {config} }} }}", ModelServerConfig())


def both(*configs):
    merged = ModelServerConfig()
    for config in configs:
        merged.MergeFrom(config)
    return merged


def reload(channel, config):
    request = model_management_pb2.ReloadConfigRequest(config=config)
    return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=30)


def reload_refusal(channel, config):
    request = model_management_pb2.ReloadConfigRequest(config=config)
    return refusal(model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest, request)


# === Folders ===


def test_a_new_version_takes_over_without_a_failed_request(serve, toys, until):
    _, stub, channel = serve(toys(1))
    stop = threading.Event()

    def ask():
        answers = []
        while not stop.is_set():
            answers.append(offset(stub))
        return answers

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(ask) for _ in range(3)]
        toys(2)
        until(lambda: states(channel) == {2: "AVAILABLE", 1: "END"})
        toys(3)
        until(lambda: states(channel) == {3: "AVAILABLE", 2: "END", 1: "END"})
        stop.set()
        for client in clients:
            answers = client.result()
            assert answers == sorted(answers)
            assert answers[0] == 1
    assert offset(stub) == 3
    assert refusal(stub.Predict, toy_request(version=2)) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(toy, 2)",
    )


def test_a_broken_version_is_reported_and_the_old_one_stays(serve, toys, until, caplog):
    server, stub, channel = serve(toys(1))
    folder = toys()
    (folder / "2").mkdir()
    until(lambda: states(channel) == {2: "END", 1: "AVAILABLE"})
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "toy"
    broken, old = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request).model_version_status
    assert broken.status.error_code == tf.errors.INVALID_ARGUMENT
    assert "Expected a SavedModel folder with saved_model.pb" in broken.status.error_message
    assert old.status.error_code == 0
    assert offset(stub) == 1
    assert "Loading servable: {name: toy version: 2} failed: INVALID_ARGUMENT" in caplog.text
    failed = f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{folder / "2"}",status="fail"}} 1.0'
    assert failed in server.metrics.text().decode()
    toys(3)
    until(lambda: states(channel) == {3: "AVAILABLE", 2: "END", 1: "END"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "saved_model.pb").write_bytes(b"\xff\xff"),
        lambda folder: (folder / "saved_model.pb").write_bytes(b""),
        lambda folder: shutil.rmtree(folder / "variables"),
        lambda folder: os.truncate(folder / "variables" / "variables.data-00000-of-00001", 0),
    ],
)
def test_damaged_versions_are_refused(serve, toys, tmp_path, until, damage):
    _, stub, channel = serve(toys(1))
    damage(toys(2, name="elsewhere") / "2")
    (tmp_path / "elsewhere" / "2").rename(toys() / "2")
    until(lambda: states(channel) == {2: "END", 1: "AVAILABLE"})
    assert offset(stub) == 1


def test_a_broken_version_is_tried_again_once_its_folder_has_gone(serve, toys, until):
    server, stub, channel = serve(toys(1))
    (toys() / "2").mkdir()
    until(lambda: states(channel) == {2: "END", 1: "AVAILABLE"})
    broken = server.models._versions["toy"][2]
    (toys() / "2").rmdir()
    until(lambda: not broken.aspired)
    toys(2)
    until(lambda: states(channel) == {2: "AVAILABLE", 1: "END"})
    assert offset(stub) == 2


def test_the_version_before_comes_back_when_the_latest_is_deleted(serve, toys, until):
    _, stub, channel = serve(toys(1, 2))
    assert states(channel) == {2: "AVAILABLE"}
    shutil.rmtree(toys() / "2")
    until(lambda: states(channel) == {2: "END", 1: "AVAILABLE"})
    assert offset(stub) == 1


def test_a_model_without_versions_is_unloaded_and_one_whose_folder_is_away_is_not(serve, toys, tmp_path, until):
    server, stub, channel = serve(toys(1), poll=0)
    (tmp_path / "toy").rename(tmp_path / "away")
    server.models._update()
    assert offset(stub) == 1
    (tmp_path / "away").rename(tmp_path / "toy")
    shutil.rmtree(tmp_path / "toy" / "1")
    server.models._update()
    assert states(channel) == {1: "END"}
    assert refusal(stub.Predict, toy_request()) == ("NOT_FOUND", "Servable not found for request: Latest(toy)")


def test_a_deleted_version_answers_what_is_under_way(serve, toys, until, monkeypatch):
    _, stub, channel = serve(toys(1))
    entered, go = threading.Event(), threading.Event()
    run = SavedModelSession.run_checked

    def wait(self, *args):
        entered.set()
        assert go.wait(30)
        return run(self, *args)

    monkeypatch.setattr(SavedModelSession, "run_checked", wait)
    future = stub.Predict.future(toy_request(40))
    assert entered.wait(30)
    shutil.rmtree(toys() / "1")
    until(lambda: states(channel) == {1: "UNLOADING"})
    assert refusal(stub.Predict, toy_request())[0] == "NOT_FOUND"
    go.set()
    assert tf.make_ndarray(future.result(30).outputs["y"]).item() == 41
    until(lambda: states(channel) == {1: "END"})


def test_only_numbers_are_versions(serve, toys):
    folder = toys(1)
    for name in (".2.tmp", "latest", "1.5", "-3", "²"):
        (folder / name).mkdir()
    (folder / "7").write_text("a file")
    (folder / "1").rename(folder / "0001")
    _, _, channel = serve(folder)
    assert states(channel) == {1: "AVAILABLE"}


def test_memory_of_versions_that_have_gone_is_given_back(serve, toys, until):
    server, _, _ = serve(toys(1))
    old = server.models._versions["toy"][1]
    graph = weakref.ref(old.session._session.graph)
    toys(2)
    until(lambda: graph() is None)
    assert old._session is None
    assert old._queues == {}
    assert set(server._scheduler._queues) == set(server.models._versions["toy"][2]._queues.values())


# === Warm-up ===


def write_warmup(folder, requests):
    (folder / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for request in requests:
            log = PredictionLog()
            if request is not None:
                log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def test_warm_up_requests_are_answered_before_a_version_is_available(serve, toys, monkeypatch):
    asked = []
    run = SavedModelSession.run_checked

    def note(self, inputs, signature_name, *args):
        asked.append((signature_name, inputs["x"].ravel().tolist()))
        return run(self, inputs, signature_name, *args)

    monkeypatch.setattr(SavedModelSession, "run_checked", note)
    requests = [toy_request(5, name=""), predict_request(name="", signature="uint16", x=np.array([7], np.uint16))]
    folder = toys(1)
    write_warmup(folder / "1", requests)
    serve(folder)
    assert asked == [("serving_default", [5]), ("uint16", [7])]
    serve(folder, warmup=False)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([toy_request(name="", signature="no")], "FAILED_PRECONDITION.*signature key"),
        ([predict_request(name="", x=np.zeros(2, np.int32))], "INVALID_ARGUMENT.*Expects arg"),
        ([None], "UNIMPLEMENTED.*Expected warm-up requests of Predict"),
        ([toy_request(name="")] * (MOST_RECORDS + 1), "Number of warmup records exceeds the maximum .1000."),
    ],
)
def test_a_version_whose_warm_up_fails_is_refused(toys, requests, message):
    folder = toys(1)
    write_warmup(folder / "1", requests)
    with pytest.raises(SpinetError, match=message):
        Server(folder, "toy", port=0)


def test_a_version_whose_warm_up_file_is_damaged_is_refused(toys):
    folder = toys(1)
    write_warmup(folder / "1", [toy_request()])
    os.truncate(folder / "1" / FILE, 20)
    with pytest.raises(SpinetError, match="DATA_LOSS"):
        Server(folder, "toy", port=0)


# === Configurations ===


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", {3: "AVAILABLE"}),
        ("latest { num_versions: 2 }", {3: "AVAILABLE", 2: "AVAILABLE"}),
        ("all {}", {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}),
        ("specific { versions: 1 versions: 2 versions: 9 }", {2: "AVAILABLE", 1: "AVAILABLE"}),
    ],
)
def test_policies_decide_which_versions_are_served(serve, toys, policy, expected):
    _, stub, channel = serve(config_of(toys(1, 2, 3), policy))
    assert states(channel) == expected
    assert [offset(stub, version=version) for version in expected] == list(expected)
    assert offset(stub) == max(expected)


def test_a_new_configuration_replaces_the_old_one(serve, toys):
    _, stub, channel = serve(config_of(toys(1, 2)))
    other = config_of(toys(3, name="other"), name="other")
    response = reload(channel, both(config_of(toys(), "specific { versions: 1 }"), other))
    assert response.status.error_code == 0
    assert states(channel) == {2: "END", 1: "AVAILABLE"}
    assert (offset(stub), offset(stub, name="other")) == (1, 3)
    reload(channel, other)
    assert states(channel) == {2: "END", 1: "END"}
    assert refusal(stub.Predict, toy_request())[0] == "NOT_FOUND"
    # A version that has ended may come back.
    reload(channel, config_of(toys()))
    assert offset(stub) == 2


def test_a_label_follows_the_configuration(serve, toys):
    folder = toys(1, 2)
    _, stub, channel = serve(config_of(folder, "all {}"))
    reload(channel, config_of(folder, "all {}", {"stable": 1, "canary": 2}))
    assert (offset(stub, label="stable"), offset(stub, label="canary")) == (1, 2)
    reload(channel, config_of(folder, "all {}", {"stable": 2}))
    assert offset(stub, label="stable") == 2
    unknown = ("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    assert refusal(stub.Predict, toy_request(label="canary")) == unknown


def test_a_label_of_a_version_that_is_not_available_is_refused(serve, toys):
    folder = toys(1)
    message = "Request to assign label to version 1 of model toy, which is not currently available for inference"
    with pytest.raises(SpinetError, match=f"{message}. Pass --allow_version_labels_for_unavailable_models."):
        Server(config_of(folder, labels={"stable": 1}), port=0)
    _, stub, channel = serve(config_of(folder))
    code, details = reload_refusal(channel, config_of(folder, labels={"stable": 2}))
    assert (code, details) == ("FAILED_PRECONDITION", message.replace("version 1", "version 2"))
    assert offset(stub) == 1


def test_labels_not_in_use_may_be_given_in_advance_where_that_is_allowed(serve, toys):
    folder = toys(1)
    _, stub, channel = serve(config_of(folder, labels={"stable": 1, "canary": 2}), labels_of_unavailable=True)
    assert offset(stub, label="stable") == 1
    missing = ("NOT_FOUND", "Servable not found for request: Specific(toy, 2)")
    assert refusal(stub.Predict, toy_request(label="canary")) == missing
    # One in use may not be moved to nothing.
    assert reload_refusal(channel, config_of(folder, labels={"stable": 2}))[0] == "FAILED_PRECONDITION"
    assert offset(stub, label="stable") == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelServerConfig(), "ServerModelConfig type not supported by HandleReloadConfigRequest"),
        (both(config_of("/a"), config_of("/b")), "Illegal to list model toy multiple times in config list"),
        (config_of("models/toy"), "Expected model toy to have a name and an absolute path; got base_path()=models/toy"),
        (config_of("/a", name=""), "to have a name"),
        (config_of("/a", platform="caffe"), "Model toy requests unsupported platform 'caffe'; expected 'tensorflow'"),
    ],
)
def test_wrong_configurations_change_nothing(serve, toys, config, message):
    _, stub, channel = serve(toys(1))
    code, details = reload_refusal(channel, config)
    assert code == "INVALID_ARGUMENT"
    assert message in details
    assert offset(stub) == 1


def test_a_new_model_that_cannot_be_served_is_reported(serve, toys, tmp_path):
    _, stub, channel = serve(toys(1))
    missing = config_of(tmp_path / "nowhere", name="other")
    code, details = reload_refusal(channel, both(config_of(toys()), missing))
    assert code == "UNKNOWN"
    assert details.startswith("1 model(s) did not become available: {name: other, no folder ")
    assert offset(stub) == 1
