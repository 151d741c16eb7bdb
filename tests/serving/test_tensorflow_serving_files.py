"""The files for TensorFlow Serving are valid, agree with each other, and do on the local server what they say."""

import argparse
import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.config import BatchingParameters, MonitoringConfig, batching_of, metrics_path_of, read_text_message
from serving.options import add_flags, models_of, options_of
from serving.server import Server
from tests.serving.requests import offset, refusal, states

FOLDER = Path(__file__).parents[2] / "serving" / "tensorflow_serving"
# Of tensorflow_model_server, as tensorflow_serving/model_servers/main.cc declares them; those in use.
TENSORFLOW_FLAGS = {"tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"}
SHARED_FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "enable_batching",
    "batching_parameters_file",
    "monitoring_config_file",
    "grpc_max_threads",
    "grpc_channel_arguments",
}


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def manifests():
    return [document for path in sorted((FOLDER / "kubernetes").glob("*.yaml")) for document in documents(path)]


def manifest(kind, name="spinet"):
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def compose():
    # As docker compose does it: variables are replaced before the file is checked.
    text = (FOLDER / "docker-compose.yml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text))


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def container(deployment):
    (only,) = pod(deployment)["containers"]
    return only


def flags(command):
    return dict(argument.removeprefix("--").split("=", 1) for argument in command)


def servers():
    """What starts a server: name, image, command line, and what is mounted where."""
    for name, service in compose()["services"].items():
        mounts = {target: source for source, target, _ in (volume.split(":") for volume in service["volumes"])}
        yield f"compose {name}", service["image"], service["command"], mounts
    for name in ("spinet", "spinet-gpu"):
        deployment = manifest("Deployment", name)
        mounts = {mount["mountPath"]: mount["name"] for mount in container(deployment)["volumeMounts"]}
        yield f"kubernetes {name}", container(deployment)["image"], container(deployment)["args"], mounts


def model_config():
    (config,) = read_text_message(FOLDER / "models.config", ModelServerConfig()).model_config_list.config
    return config


def roll_out():
    """The steps that OPERATIONS.md tells."""
    text = (FOLDER / "OPERATIONS.md").read_text()
    return re.findall(r"```proto\n(.*?)```", text, re.DOTALL)


# === Each by itself ===


def test_models_are_found_where_the_export_writes_them(model_dir):
    config = model_config()
    (saved_model,) = model_dir.glob("*/saved_model.pb")
    assert saved_model.parent.name == "2"
    assert Path(config.base_path) == Path("/models") / model_dir.name
    assert config.model_platform == "tensorflow"
    assert list(config.model_version_policy.specific.versions) == [1]
    assert dict(config.version_labels) == {"stable": 1, "canary": 1}


def test_batching_is_what_tensorflow_serving_admits():
    fixed, ragged = (
        batching_of(read_text_message(FOLDER / name, BatchingParameters()))
        for name in ("batching.config", "batching_ragged.config")
    )
    assert (fixed.pad, ragged.pad) == (False, True)
    for batching in (fixed, ragged):
        # Seam-free maps send single frames of 32 x 32 pixels, 160 at once.
        assert batching.max_batch_size >= 160
        # The greatest request has to fit into an empty queue.
        assert batching.max_enqueued_batches * batching.greatest > batching.max_batch_size
        assert (fixed.greatest, fixed.timeout) == (batching.greatest, batching.timeout)


@pytest.mark.parametrize(
    "document", manifests(), ids=lambda document: f"{document['kind']} {document['metadata']['name']}"
)
def test_manifests_are_valid(document):
    for version in ("1.30", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_is_strict():
    broken = manifest("Deployment")
    container(broken)["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_compose_file_is_valid():
    compose_spec = pytest.importorskip("compose_spec", reason="the schema of compose files is in compose-spec")
    checked = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose())).to_spec()
    assert set(checked.services) == {"spinet", "spinet-gpu"}


# === Together ===


@pytest.mark.parametrize("server", list(servers()), ids=lambda server: server[0])
def test_command_lines_name_flags_and_files_that_exist(server):
    _, image, command, mounts = server
    given = flags(command)
    assert len(given) == len(command)
    assert set(given) <= TENSORFLOW_FLAGS | SHARED_FLAGS
    for flag, value in given.items():
        if flag.endswith("_file"):
            path = Path(value)
            assert str(path.parent) in mounts
            assert (FOLDER / path.name).is_file()
    assert str(Path(model_config().base_path).parent) in mounts
    # Metrics are on the port of HTTP, and batching parameters without batching are refused.
    assert given["rest_api_port"] == "8501"
    assert given["enable_batching"] == "true"
    # Of the release whose messages the tests use.
    release = metadata.version("tensorflow-serving-api")
    assert image in (f"tensorflow/serving:{release}", f"tensorflow/serving:{release}-gpu")


def test_all_servers_are_started_alike():
    lines = {name: flags(command) for name, _, command, _ in servers()}
    shared = set.intersection(*(set(line.items()) for line in lines.values()))
    for name, line in lines.items():
        own = {flag for flag, value in line.items() if (flag, value) not in shared}
        assert own <= (TENSORFLOW_FLAGS | {"grpc_channel_arguments"} if "kubernetes" in name else set())


def test_the_kustomization_has_every_file_that_the_servers_read():
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]
    assert all((FOLDER / name).is_file() for name in generator["files"] + kustomization["resources"])
    for name in ("spinet", "spinet-gpu"):
        deployment = manifest("Deployment", name)
        volumes = {volume["name"]: volume for volume in pod(deployment)["volumes"]}
        assert volumes["config"]["configMap"]["name"] == generator["name"]
        assert (
            volumes["models"]["persistentVolumeClaim"]["claimName"]
            == manifest("PersistentVolumeClaim", "spinet-models")["metadata"]["name"]
        )
        assert {mount["name"] for mount in container(deployment)["volumeMounts"]} == set(volumes)
        read = [value for value in container(deployment)["args"] if "=/config/" in value]
        assert {Path(value).name for value in read} | {"ready.sh"} == set(generator["files"])
    # A name with a hash would start all pods anew instead of letting them read a changed file.
    assert kustomization["generatorOptions"] == {"disableNameSuffixHash": True}
    unlisted = {f"kubernetes/{path.name}" for path in (FOLDER / "kubernetes").iterdir()} - set(
        kustomization["resources"]
    )
    assert unlisted == {"kubernetes/deployment-gpu.yaml"}


def test_selectors_find_the_pods_and_ports():
    for name in ("spinet", "spinet-gpu"):
        deployment = manifest("Deployment", name)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
        given = flags(container(deployment)["args"])
        assert ports == {"grpc": int(given["port"]), "http": int(given["rest_api_port"])}
        for service in ("spinet", "spinet-pods"):
            spec = manifest("Service", service)["spec"]
            assert spec["selector"].items() <= labels.items()
            assert all(port["port"] == ports[port["targetPort"]] for port in spec["ports"])
        for selector in (
            manifest("PodDisruptionBudget")["spec"]["selector"],
            manifest("NetworkPolicy")["spec"]["podSelector"],
        ):
            assert selector["matchLabels"].items() <= labels.items()
        allowed = {port["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
        assert allowed == set(ports)
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        monitoring = read_text_message(FOLDER / "monitoring.config", MonitoringConfig())
        assert annotations["prometheus.io/path"] == metrics_path_of(monitoring)
        assert int(annotations["prometheus.io/port"]) == ports["http"]
        # Each gets a GPU or none, as its image can use it.
        assert ("nvidia.com/gpu" in container(deployment)["resources"]["limits"]) == (name == "spinet-gpu")
        assert container(deployment)["image"].endswith("-gpu") == (name == "spinet-gpu")
    # The pods of the two deployments must not be taken for each other.
    (cpu, gpu) = (manifest("Deployment", name)["spec"]["selector"]["matchLabels"] for name in ("spinet", "spinet-gpu"))
    assert cpu != gpu


def test_the_autoscaler_alone_decides_on_replicas():
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    target = manifest(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]
    # It measures the share of what is requested.
    assert "cpu" in container(target)["resources"]["requests"]
    assert scaler["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["minAvailable"]


def test_threads_are_the_cpus_requested():
    deployment = manifest("Deployment")
    given = flags(container(deployment)["args"])
    cpus = container(deployment)["resources"]["requests"]["cpu"]
    assert {given[flag] for flag in TENSORFLOW_FLAGS} == {cpus}


def test_a_stopping_pod_outlives_its_connections():
    for name in ("spinet", "spinet-gpu"):
        deployment = manifest("Deployment", name)
        key, _, age = flags(container(deployment)["args"])["grpc_channel_arguments"].partition("=")
        assert key == "grpc.max_connection_age_ms"
        command, seconds = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
        assert command == "sleep"
        assert int(age) / 1000 < int(seconds) < pod(deployment)["terminationGracePeriodSeconds"]


# === On the local server ===


@pytest.fixture
def put(toys, tmp_path):
    """Versions of a toy where the configuration looks for those of the model; returns the configuration moved there."""

    def move(text, *versions):
        toys(*versions, name="models/spinet")
        return text.replace('"/models/', f'"{tmp_path}/models/')

    (tmp_path / "models").mkdir()
    return move


def ready(condition, port, model="spinet"):
    command = ["bash", str(FOLDER / "ready.sh"), condition, model, str(port)]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize(
    ("code", "answers", "available", "loaded"),
    [
        (200, ["START"], False, False),
        (200, ["LOADING"], False, False),
        (200, ["AVAILABLE"], True, True),
        (200, ["LOADING", "AVAILABLE"], True, False),
        (200, ["AVAILABLE", "START"], True, False),
        (200, ["END", "AVAILABLE"], True, True),
        (200, ["UNLOADING", "END"], False, False),
        (404, [], False, False),
    ],
)
def test_the_probe_tells_what_the_status_says(code, answers, available, loaded):
    versions = [{"version": str(number), "state": state} for number, state in enumerate(answers, start=1)]

    class Status(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps({"model_version_status": versions}, indent=1).encode())

        def log_message(self, *_):
            pass

    asked = []
    with HTTPServer(("127.0.0.1", 0), Status) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        assert ready("available", server.server_port) == available
        assert ready("loaded", server.server_port) == loaded
        server.shutdown()
    assert asked == 2 * ["/v1/models/spinet"]


def test_the_probe_understands_the_local_server(put):
    config = text_format.Parse(put((FOLDER / "models.config").read_text(), 1), ModelServerConfig())
    with Server(config, port=0, rest_api_port=0, labels_of_unavailable=True, poll=0) as server:
        port = server.rest_address.split(":")[1]
        assert ready("available", port)
        assert ready("loaded", port)
        assert not ready("available", port, model="other")
    assert not ready("available", port)


def test_probes_are_called_as_they_want_to_be():
    assert compose()["services"]["spinet"]["healthcheck"]["test"] == ["CMD", "bash", "/config/ready.sh", "available"]
    for name in ("spinet", "spinet-gpu"):
        only = container(manifest("Deployment", name))
        assert only["startupProbe"]["exec"]["command"] == ["bash", "/config/ready.sh", "loaded"]
        assert only["readinessProbe"]["exec"]["command"] == ["bash", "/config/ready.sh", "available"]


def test_the_command_line_of_the_compose_file_starts_the_local_server(put, tmp_path, connect):
    put("", 1)
    text = (FOLDER / "models.config").read_text().replace('"/models/', f'"{tmp_path}/models/')
    (tmp_path / "models.config").write_text(text)
    parser = argparse.ArgumentParser()
    add_flags(parser)
    command = compose()["services"]["spinet"]["command"]
    command = [line.replace("/config/models.config", f"{tmp_path}/models.config") for line in command]
    command = [line.replace("/config/", f"{FOLDER}/") for line in command]
    args = parser.parse_args([*command, "--port=0", "--rest_api_port=0"])
    with Server(models_of(args), **vars(options_of(args))) as server:
        stub, channel = connect(server.address)
        assert states(channel, "spinet") == {1: "AVAILABLE"}
        assert [offset(stub, name="spinet", label=label) for label in ("stable", "canary")] == [1, 1]
        assert server.options.batching == batching_of(
            read_text_message(FOLDER / "batching_ragged.config", BatchingParameters())
        )
        assert server.options.metrics_path == "/monitoring/prometheus/metrics"


def test_a_version_is_rolled_out_and_back_as_told(put, connect, until):
    first, *steps = [
        text_format.Parse(put(text), ModelServerConfig())
        for text in [(FOLDER / "models.config").read_text(), *roll_out()]
    ]
    put("", 1, 2)
    both, canary, all_of_it, done = steps
    with Server(first, port=0, labels_of_unavailable=True, poll=0) as server:
        stub, channel = connect(server.address)
        service = model_service_pb2_grpc.ModelServiceStub(channel)

        def apply(config):
            service.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=config), timeout=30)
            wanted = set(config.model_config_list.config[0].model_version_policy.specific.versions)
            until(lambda: {v for v, s in states(channel, "spinet").items() if s == "AVAILABLE"} == wanted)
            return [offset(stub, name="spinet", label=label) for label in ("stable", "canary")]

        assert [offset(stub, name="spinet", label=label) for label in ("stable", "canary")] == [1, 1]
        # Out of order: the label would move to a version that is not there yet.
        request = model_management_pb2.ReloadConfigRequest(config=canary)
        assert refusal(service.HandleReloadConfigRequest, request)[0] == "FAILED_PRECONDITION"
        assert offset(stub, name="spinet", label="canary") == 1
        assert apply(both) == [1, 1]
        assert apply(canary) == [1, 2]
        assert apply(all_of_it) == [2, 2]
        assert apply(canary) == [1, 2]  # back
        assert apply(all_of_it) == [2, 2]
        assert apply(done) == [2, 2]
