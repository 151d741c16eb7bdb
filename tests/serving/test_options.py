"""Flags and configuration files are TensorFlow Serving's."""

import argparse

import pytest

from serving.batching import Batching
from serving.options import CHANNEL_ARGUMENTS, Options, add_flags, models_of, options_of
from spinet_tf.errors import SpinetError


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return lambda *flags: parser.parse_args([str(flag) for flag in flags])


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "file.config").write_text(text)
        return tmp_path / "file.config"

    return write


def test_without_flags_the_defaults_hold(parse):
    assert options_of(parse()) == Options()
    assert options_of(parse()).channel == CHANNEL_ARGUMENTS


def test_flags_are_spelled_as_there(parse, tmp_path):
    (tmp_path / "token.txt").write_text("abc")
    args = parse(
        "--port=8600",
        "--rest_api_port=8601",
        "--rest_api_num_threads=3",
        "--rest_api_timeout_in_ms=1500",
        "--grpc_max_threads=5",
        "--file_system_poll_wait_seconds=0.5",
        "--enable_model_warmup=false",
        "--allow_version_labels_for_unavailable_models",
        "--grpc_channel_arguments=grpc.max_receive_message_length=-1,grpc.primary_user_agent=x",
        f"--token_file={tmp_path / 'token.txt'}",
    )
    options = options_of(args)
    assert (options.port, options.rest_api_port, options.rest_api_num_threads) == (8600, 8601, 3)
    assert (options.rest_api_timeout, options.grpc_max_threads, options.poll) == (1.5, 5, 0.5)
    assert (options.warmup, options.labels_of_unavailable) == (False, True)
    assert options.channel["grpc.primary_user_agent"] == "x"
    assert options.most_bytes == 2**31 - 1
    assert options.token.allows("Bearer abc")


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("=true", True), ("=false", False), ("=1", True), ("=0", False)]
)
def test_flags_may_be_given_a_truth(parse, text, value):
    assert parse(f"--enable_batching{text}").enable_batching is value


def test_other_truths_are_refused(parse, capsys):
    with pytest.raises(SystemExit):
        parse("--enable_batching=maybe")
    assert "expected true or false, received 'maybe'" in capsys.readouterr().err


def test_batching_parameters(parse, write):
    path = write(
        """
        max_batch_size { value: 8 }
        batch_timeout_micros { value: 2500 }
        max_enqueued_batches { value: 20 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "threads" }
        allowed_batch_sizes: 4
        allowed_batch_sizes: 8
        pad_variable_length_inputs: true
        """
    )
    options = options_of(parse("--enable_batching", "--batching_parameters_file", path))
    assert options.batching == Batching(8, 0.0025, 20, (4, 8), pad=True)
    assert options.num_batch_threads == options.threads == 3
    assert options_of(parse("--enable_batching")).batching == Batching()


def test_large_requests_may_be_split(parse, write):
    path = write("max_batch_size { value: 8 } enable_large_batch_splitting { value: true }")
    assert options_of(parse("--enable_batching", f"--batching_parameters_file={path}")).batching.greatest == 8
    path.write_text(path.read_text() + "max_execution_batch_size { value: 2 }")
    assert options_of(parse("--enable_batching", f"--batching_parameters_file={path}")).batching.greatest == 2
    path.write_text("max_batch_size { value: 8 } max_execution_batch_size { value: 2 }")
    assert options_of(parse("--enable_batching", f"--batching_parameters_file={path}")).batching.greatest == 8


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { path: "/m" }', None),
    ],
)
def test_monitoring(parse, write, text, path):
    args = parse("--rest_api_port=0", "--monitoring_config_file", write(text))
    assert options_of(args).metrics_path == path


def test_models(parse, write, tmp_path):
    (single,) = models_of(parse("--model_base_path", tmp_path, "--model_name=toy")).model_config_list.config
    assert (single.name, single.base_path, single.model_platform) == ("toy", str(tmp_path), "tensorflow")
    path = write('model_config_list { config { name: "a" version_labels { key: "stable" value: 3 } } }')
    (listed,) = models_of(parse("--model_config_file", path)).model_config_list.config
    assert dict(listed.version_labels) == {"stable": 3}


@pytest.mark.parametrize(
    ("flags", "text", "message"),
    [
        (
            ["--enable_batching", "--batching_parameters_file"],
            "num_batch_threads { value: 0 }",
            "num_batch_threads of 1",
        ),
        (
            ["--enable_batching", "--batching_parameters_file"],
            "batches: 3",
            "Expected a BatchingParameters in protobuf",
        ),
        (["--monitoring_config_file"], "prometheus_config { enable: true }", "Give one by --rest_api_port"),
        (["--ssl_config_file"], "key: 3", "Expected a SSLConfig in protobuf's text format"),
        (["--model_config_file"], "\x00", "Expected a ModelServerConfig in protobuf's text format"),
    ],
)
def test_wrong_files_are_refused(parse, write, flags, text, message):
    args = parse(*flags, write(text))
    with pytest.raises(SpinetError, match=message):
        options_of(args), models_of(args)
