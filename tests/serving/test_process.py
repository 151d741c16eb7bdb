"""The server as a program."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from serving.server import main
from tests.serving.requests import offset, refusal, states, toy_request

pytestmark = pytest.mark.slow


@contextmanager
def running(*flags, port=0):
    """A server process, and what it says when it is ready: (process, lines)."""
    argv = [sys.executable, "-m", "serving.server", "--port", *map(str, [port, *flags])]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            lines = [process.stdout.readline()]
            while lines[-1] and not lines[-1].startswith("serving"):
                lines.append(process.stdout.readline())
            yield process, lines
        finally:
            process.kill()


def test_the_server_says_where_it_listens_follows_its_configuration_and_stops_cleanly(toys, tmp_path, connect, until):
    config = tmp_path / "models.config"
    text = 'model_config_list {{ config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }} }}'
    config.write_text(text.format("toy", toys(2)))
    flags = ["--model_config_file", config, "--model_config_file_poll_wait_seconds=0.05", "--rest_api_port=0"]
    with running(*flags) as (process, lines):
        assert re.fullmatch(r"HTTP on 127\.0\.0\.1:\d+\n", lines[0])
        *words, address = lines[1].split()
        assert " ".join(words) == "serving toy version 2 on"
        stub, channel = connect(address)
        assert offset(stub) == 2
        assert "Successfully loaded servable version {name: toy version: 2}" in process.stderr.readline()
        config.write_text("nonsense")
        assert "models.config: Expected a ModelServerConfig" in process.stderr.readline()
        config.write_text(text.format("other", toys(3, name="other")))
        until(lambda: states(channel, "other") == {3: "AVAILABLE"})
        assert states(channel) == {2: "END"}
        assert offset(stub, name="other") == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert refusal(stub.Predict, toy_request())[0] == "UNAVAILABLE"
        assert process.stdout.read() == "stopped\n"
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model_base_path", "{}"],
            "error: 1 model(s) did not become available: {name: spinet, no numbered versions in ",
        ),
        ([], "error: Expected --model_base_path"),
        (
            ["--model_base_path", "{}", "--batching_parameters_file", "x"],
            "error: --batching_parameters_file is set without",
        ),
        (
            ["--model_base_path", "{}", "--grpc_channel_arguments", "a"],
            "error: Expected --grpc_channel_arguments as KEY=VAL",
        ),
        (["--model_base_path", "{}", "--monitoring_config_file", "{}/no"], "error: Cannot read"),
        (["--model_base_path", "{}", "--token_file", "{}/no"], "error: Cannot read the token"),
        (["--model_base_path", "{}", "--grpc_max_threads", "0"], "error: Expected grpc_max_threads of 1 or more"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, capsys, flags, message):
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    try:
        assert main([*(flag.replace("{}", str(tmp_path)) for flag in flags), "--port", "0"]) == 1
    finally:
        signal.signal(signal.SIGINT, handlers[0])
        signal.signal(signal.SIGTERM, handlers[1])
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
