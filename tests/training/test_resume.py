"""Whatever ends a run, the same command goes on, and ends where an undisturbed run ends: bit for bit."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from training import callbacks
from training.callbacks import Forecast, Keeper
from training.checkpoint import FILE, require_room
from training.train import main

# Everything that has a state: averages, moments, accumulated gradients, a schedule, random draws.
CONFIG = """
patch: 8
batch: 4
accumulate: 2
steps: 5
epochs: 3
learning_rate: 0.05
optimizer: adamw
warmup: 3
schedule: cosine
clip_norm: 1.0
average: 0.8
frame_count: [2, 5]
jitter: 0.05
frame_dropout: 0.1
checkpoint_minutes: 0
deterministic: true
"""
STEPS = 30


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def network(pixel_model, monkeypatch):
    # Determinism is for the whole process, and other tests share it; tiny matrix products have it anyway.
    import tensorflow as tf

    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


@pytest.fixture
def command(tmp_path, scenes):
    def run(config=CONFIG, output="run", *more):
        (tmp_path / "config.yaml").write_text(config)
        arguments = ["--config", str(tmp_path / "config.yaml"), "--data", str(scenes)]
        return main([*arguments, "--output", str(tmp_path / output), *more])

    return run


@pytest.fixture
def undisturbed(command, tmp_path):
    """The folder of a run that nothing disturbed."""
    assert command(output="undisturbed") == 0
    return tmp_path / "undisturbed"


def at_step(monkeypatch, number, action):
    """Do something after a step of the run, counted over all epochs."""
    seen = []
    original = Forecast.on_train_batch_end

    def count(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == number:
            action()
        original(self, batch, logs)

    monkeypatch.setattr(Forecast, "on_train_batch_end", count)


def crash():
    raise Crash


def assert_same_run(folder, other):
    first, second = (np.load(path / FILE, allow_pickle=False) for path in (folder, other))
    assert sorted(first) == sorted(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert (folder / "log.csv").read_text() == (other / "log.csv").read_text()
    for name in ("best.keras", "last.keras"):
        weights = [keras.models.load_model(path / name).get_weights() for path in (folder, other)]
        np.testing.assert_array_equal(np.concatenate(weights[0], None), np.concatenate(weights[1], None))


@pytest.mark.parametrize("step", [1, 2, 10, 17, 29])
def test_a_crash_at_any_step(command, undisturbed, tmp_path, monkeypatch, step):
    with monkeypatch.context() as context:
        at_step(context, step, crash)
        with pytest.raises(Crash):
            command()
    assert command() == 0
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_crash_long_after_the_last_checkpoint(command, undisturbed, tmp_path, monkeypatch, capsys):
    rare = CONFIG.replace("checkpoint_minutes: 0", "checkpoint_minutes: 99")
    with monkeypatch.context() as context:
        at_step(context, 17, crash)
        with pytest.raises(Crash):
            command(rare)
    assert command(rare) == 0
    assert "Going on after step 0 of epoch 2" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("moment", ["validate", "save", "checkpoint"])
def test_a_crash_around_the_end_of_an_epoch(command, undisturbed, tmp_path, monkeypatch, moment):
    calls = []

    def crashing(self, *arguments):
        calls.append(moment)
        if len(calls) == 2:
            raise Crash
        return original(self, *arguments)

    with monkeypatch.context() as context:
        if moment == "validate":
            original = Keeper.finish_epoch
            context.setattr(Keeper, "finish_epoch", crashing)
        elif moment == "save":
            original = Keeper.save
            context.setattr(Keeper, "save", crashing)
        else:
            original = Keeper._write_log
            context.setattr(Keeper, "_write_log", crashing)
        with pytest.raises(Crash):
            command()
    assert command() == 0
    assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_exits_130(command, undisturbed, tmp_path, monkeypatch, capsys, number):
    rare = CONFIG.replace("checkpoint_minutes: 0", "checkpoint_minutes: 99")
    handler = signal.getsignal(number)
    with monkeypatch.context() as context:
        at_step(context, 13, lambda: os.kill(os.getpid(), number))
        assert command(rare) == 130
    assert signal.getsignal(number) is handler
    assert "The same command goes on from" in capsys.readouterr().out
    assert command(rare) == 0
    # The signal arrives with step 13, the third of epoch 2, and is heeded at the end of the next.
    assert "Going on after step 4 of epoch 2" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", undisturbed)


def test_ctrl_c_while_validating(command, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        original = Keeper.on_test_batch_end

        def interrupt(self, batch, logs=None):
            if self.progress.epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)
            original(self, batch, logs)

        context.setattr(Keeper, "on_test_batch_end", interrupt)
        assert command() == 130
    assert command() == 0
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_finished_run_is_left_as_it_is(command, undisturbed, tmp_path):
    before = {path.name: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()}
    assert command(output="undisturbed") == 0
    assert {path.name: path.read_bytes() for path in undisturbed.iterdir() if path.is_file()} == before


def test_a_full_disk_harms_nothing_that_was_saved(command, undisturbed, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as context:
        original = np.savez

        def full(path, **arrays):
            original(path, **arrays)
            if len(list(tmp_path.glob("run/best.keras"))):
                os.truncate(path, 100)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        context.setattr(np, "savez", full)
        assert command() == 1
    error = capsys.readouterr().err
    assert "No space left on device. The checkpoint before it is unharmed" in error
    assert not list((tmp_path / "run").glob(".*"))
    assert command() == 0
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_disk_that_is_too_small_is_found_before_training(tmp_path, command, monkeypatch, capsys):
    require_room(tmp_path, 1)
    monkeypatch.setattr("training.train.room_for", lambda model: 1 << 60)
    assert command() == 1
    assert "MB free for checkpoints and models" in capsys.readouterr().err
    assert not (tmp_path / "run" / FILE).exists()


def test_a_loss_that_is_not_finite_names_step_patches_and_checkpoint(command, tmp_path, monkeypatch, capsys):
    original = callbacks.Keeper.on_train_batch_end

    def diverge(self, batch, logs=None):
        if self.progress.epoch == 1 and batch == 3:
            logs = {**logs, "loss": float("nan")}
        original(self, batch, logs)

    monkeypatch.setattr(callbacks.Keeper, "on_train_batch_end", diverge)
    assert command() == 1
    error = capsys.readouterr().err
    assert "the loss is nan after step 4 of epoch 2, on the patches eopatch-" in error
    assert f"The last good checkpoint is {tmp_path / 'run' / FILE}" in error


def test_weights_that_are_not_finite_are_never_saved(command, tmp_path, monkeypatch, capsys):
    original = callbacks.Keeper.checkpoint

    def poisoned(self, weights=None):
        if self.progress.step == 3:
            self.model.set_weights([np.full_like(value, np.inf) for value in self.model.get_weights()])
        original(self, weights)

    monkeypatch.setattr(callbacks.Keeper, "checkpoint", poisoned)
    assert command() == 1
    assert "some weights are not finite. The last good checkpoint is" in capsys.readouterr().err
    with np.load(tmp_path / "run" / FILE, allow_pickle=False) as file:
        assert '"step": 2' in str(file["progress"])


def test_a_run_of_another_configuration_or_damaged_is_refused(command, undisturbed, capsys):
    assert command(CONFIG.replace("0.05\noptimizer", "0.04\noptimizer"), "undisturbed") == 1
    assert "another configuration or of other data (learning_rate: 0.05 then, 0.04 now)" in capsys.readouterr().err
    assert command(CONFIG.replace("minutes: 0", "minutes: 1"), "undisturbed") == 0
    whole = (undisturbed / FILE).read_bytes()
    (undisturbed / FILE).write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert command(CONFIG, "undisturbed") == 1
    assert "checkpoint.npz is damaged" in capsys.readouterr().err
    assert command(CONFIG, "undisturbed", "--overwrite") == 0


def test_patience_ends_a_run_that_stopped_improving(command, tmp_path, capsys):
    still = CONFIG.replace("epochs: 3", "epochs: 9").replace("learning_rate: 0.05", "learning_rate: 1e-30")
    assert command(still + "patience: 2\n") == 0
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    # The first epoch is the best, and two more are not better.
    assert len(rows) == 1 + 3
    assert command(still + "patience: 2\n") == 0
    assert (tmp_path / "run" / "log.csv").read_text().splitlines() == rows


def test_averages_are_what_is_saved(command, tmp_path):
    assert command() == 0
    with np.load(tmp_path / "run" / FILE, allow_pickle=False) as file:
        raw = [file[name] for name in sorted(file) if name.startswith("weight_")]
    saved = keras.models.load_model(tmp_path / "run" / "last.keras")
    averages = [v.numpy() for v in saved.optimizer.variables if v.path.endswith("average")]
    for number, weight in enumerate(saved.get_weights()):
        assert np.abs(weight - raw[number]).max() > 1e-6
        np.testing.assert_array_equal(weight, averages[number])


DRIVER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import training.network
from tests.training.conftest import PixelModel
from training import callbacks
from training.train import main

class Fake:
    @staticmethod
    def named(configuration, bands, scale, mean, std, dtype):
        model = PixelModel(len(bands), scale)
        model.build({{"images": (None, None, None, None, len(bands)), "frame_mask": (None, None)}})
        return model

training.network.SPInet = Fake
step = int(sys.argv[1])
seen = 0

class Forecast(callbacks.Forecast):
    def on_train_batch_end(self, batch, logs=None):
        global seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

import training.train
training.train.Forecast = Forecast
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_kill_9_at_a_random_step(command, scenes, tmp_path):
    root = str(Path(__file__).parents[2])
    driver = tmp_path / "driver.py"
    driver.write_text(textwrap.dedent(DRIVER.format(root=root)))
    (tmp_path / "config.yaml").write_text(CONFIG)
    arguments = ["--config", str(tmp_path / "config.yaml"), "--data", str(scenes), "--output"]

    def run(step, name):
        ended = subprocess.run(
            [sys.executable, str(driver), str(step), *arguments, str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return ended.returncode, ended.stderr

    step = int(np.random.default_rng().integers(1, STEPS))
    assert run(0, "undisturbed") == (0, ""), step
    assert run(step, "run")[0] == -signal.SIGKILL, step
    assert run(0, "run") == (0, ""), step
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")
