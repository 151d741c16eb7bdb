"""Several devices and several workers learn what one device learns, and are told what their set-up lacks."""

import contextlib
import os
import socket
import subprocess
import sys
from json import dumps

import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from tests.training.workers import train
from training.devices import require_cluster

SECONDS = 240  # after which a run is given up


def free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def run_processes(folder, strategy, environments):
    """Run `tests.training.workers` once for each environment, at the same time; what each wrote."""
    arguments = [sys.executable, "-m", "tests.training.workers", strategy, str(folder)]
    processes, logs = [], []
    try:
        for number, environment in enumerate(environments):
            logs.append(folder / f"{number}.log")
            with logs[-1].open("w") as log:
                processes.append(
                    subprocess.Popen(
                        [*arguments, f"{number}.npz"],
                        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        for process, log in zip(processes, logs, strict=True):
            assert process.wait(SECONDS) == 0, log.read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    results = []
    for number in range(len(environments)):
        with np.load(folder / f"{number}.npz", allow_pickle=False) as arrays:
            results.append(dict(arrays))
    return results


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run by `model.fit` on one device, without an interruption."""
    return train("single", tmp_path_factory.mktemp("alone"))


def assert_same(run, alone):
    assert run.keys() == alone.keys()
    for name, expected in alone.items():
        np.testing.assert_allclose(run[name], expected, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_workers_stopped_and_resumed_learn_what_one_process_learns(alone, tmp_path):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    configurations = [
        {"TF_CONFIG": dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})}
        for index in range(2)
    ]
    for run in run_processes(tmp_path, "multi_worker", configurations):
        assert_same(run, alone)


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(alone, tmp_path):
    (run,) = run_processes(tmp_path, "mirrored", [{}])
    assert_same(run, alone)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Received: nothing"),
        ("", "Received: nothing"),
        ("{worker", "not JSON"),
        ("[]", "without a list cluster.worker"),
        ('{"cluster": {}}', "without a list cluster.worker"),
        ('{"cluster": {"worker": "a:1"}}', "without a list cluster.worker"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}', "another type"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "another type"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "without a task.index from 0 to 0"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "without a task.index from 0 to 0",
        ),
    ],
)
def test_what_a_cluster_lacks_is_said(text, message):
    with pytest.raises(SpinetError, match=message):
        require_cluster(text)


def test_a_complete_cluster_is_accepted():
    require_cluster('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
