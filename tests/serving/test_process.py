"""The server as a program."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from spinet_client import Client, ServingError

from serving.server import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_says_where_it_listens_and_stops_cleanly(model_dir, number):
    argv = [sys.executable, "-m", "serving.server", "--model-dir", model_dir, "--port", "0", "--name", "fields"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            *words, address = process.stdout.readline().split()
            assert " ".join(words) == "serving fields version 2 on"
            with Client(address, "fields") as client:
                answer = client.predict(np.ones((1, 1, 2, 2, 12), np.uint16))
                assert answer.shape == (1, 8, 8, 1)
                process.send_signal(number)
                assert process.wait(30) == 0
                with pytest.raises(ServingError, match="No server answers"):
                    client.predict(np.ones((1, 1, 2, 2, 12), np.uint16))
        finally:
            process.kill()
        assert process.stdout.read() == "stopped\n"
        assert process.stderr.read() == ""


def test_server_without_a_model_fails_with_one_line(tmp_path, capsys):
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    try:
        assert main(["--model-dir", str(tmp_path), "--port", "0"]) == 1
    finally:
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    error = capsys.readouterr().err
    assert error.startswith("error: Expected a folder with numbered versions")
    assert error.count("\n") == 1
