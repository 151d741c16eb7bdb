"""The benchmark of speed runs, its peer is our network, and its ratios are the right way round."""

import json
import sys
from concurrent.futures import Executor, Future

import keras
import numpy as np
import pytest

from spinet_tf import SPInet
from tests.benchmarks.speed import __main__ as command
from tests.benchmarks.speed import ours, processes
from tests.benchmarks.speed.processes import CannotRun, Contender, Timing, race
from tests.benchmarks.speed.spec import Spec
from tests.benchmarks.speed.tables import TIMINGS_HEAD, timings_rows
from tests.helpers import assert_close, randomize

SMALLEST = ["--model=tiny", "--frames=2", "--sizes=8", "--batches=1", "--rounds=1", "--precisions=float32"]


class Here(Executor):
    """This process instead of a fresh one, which would import everything again."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(processes, "fresh_process", Here)
    monkeypatch.setattr(processes, "ROUND_SECONDS", 1e-9)
    monkeypatch.setattr(command, "set_up", lambda threads: None)


@pytest.fixture(scope="module")
def pair():
    """Our network and the peer with its weights."""
    pytest.importorskip("torch")
    from tests.benchmarks.speed.network import Peer, copy_weights

    ours = randomize(SPInet(bands=3, filters=8, tefa_blocks=2, bottleneck=3, mean=[0.1, 0, 0], std=[2, 1, 0.5]))
    peer = Peer(bands=3, scale=4, filters=8, tefa_blocks=2, bottleneck=3)
    copy_weights(peer, {w.path: keras.ops.convert_to_numpy(w) for w in ours.weights})
    return ours, peer


def answer(peer, images):
    import torch

    with torch.no_grad():
        return peer(torch.from_numpy(images).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("shape", [(1, 1, 5, 3), (2, 3, 7, 6)])
def test_the_peer_is_our_network(pair, rng, shape):
    ours, peer = pair
    images = rng.normal(size=(*shape, 3)).astype("float32")
    expected = ours({"images": images, "frame_mask": np.ones(shape[:2], bool)})
    assert_close(answer(peer.eval(), images), expected)


def test_the_peer_is_our_network_in_training(pair, rng):
    ours, peer = pair
    images = rng.normal(size=(2, 3, 6, 5, 3)).astype("float32")
    before = ours.get_weights(), {name: tensor.clone() for name, tensor in peer.state_dict().items()}
    expected = ours({"images": images, "frame_mask": np.ones((2, 3), bool)}, training=True)
    assert_close(answer(peer.train(), images), expected)
    moved = ours.get_layer("tefa_2").unit_1.norm_out.moving_variance
    assert_close(peer.tefa_2.unit_1.norm_out.running_var, keras.ops.convert_to_numpy(moved))
    ours.set_weights(before[0])
    peer.load_state_dict(before[1])


def test_weights_without_counterpart_are_refused(pair):
    from tests.benchmarks.speed.network import copy_weights

    ours, peer = pair
    weights = {w.path: keras.ops.convert_to_numpy(w) for w in ours.weights}
    weights["other/kernel"] = weights.pop("head/norm_in/beta")
    with pytest.raises(ValueError, match=r"\['head/norm_in/beta', 'other/kernel'\]"):
        copy_weights(peer, weights)


@pytest.mark.slow
def test_the_command(here, monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr("training.cost.count_macs", lambda *arguments: 10**6)
    file = tmp_path / "speed.json"
    assert command.main([*SMALLEST, "--cases", "forward", "--rivals", "pytorch", f"--json={file}"]) == 0
    output = capsys.readouterr().out
    assert "PyTorch's answers differ from ours by at most" in output
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith("| forward 1 x 2 x 8 x 8 |")]
    assert [row[1] for row in rows] == ["this package", "this package, folded", "PyTorch"]
    found = json.loads(file.read_text())
    assert all(timing["seconds"] and timing["peak_bytes"] > 2**20 for timing in found["timings"])


def test_training_is_measured_with_parts_computed_twice_too():
    case = Spec("tiny", "", task="step")
    racing = list(command.contenders(case, {"pytorch", "openvino"}, ["float32"], {"step": "contiguous"}))
    assert [racer.timing.name for racer in racing] == ["this package", "this package, rematerialised", "PyTorch"]
    kept, again = (ours.build(racer.timing.spec).get_layer("tefa_1").unit_1.remat for racer in racing[:2])
    assert (kept, again) == (False, True)


def test_without_torch_a_line_says_what_to_install(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("pytorch", "network"):
        monkeypatch.delitem(sys.modules, f"tests.benchmarks.speed.{module}", raising=False)
    assert not command.tried("PyTorch", lambda: command.prepare_pytorch(Spec("tiny", ""), [], {}))
    assert capsys.readouterr().out == "PyTorch is left out: torch is not installed: pip install 'spinet-tf[bench]'\n"


def test_contenders_take_turns_and_one_that_fails_leaves(here, monkeypatch):
    turns = []

    class Module:
        def prepare(self, spec):
            def run():
                turns.append(spec.variant)
                if spec.variant == "b" and turns.count("b") > 3:
                    raise MemoryError("too much\nof it")

            return run

    monkeypatch.setattr(processes, "_call", lambda module, function, arguments: Module().prepare(*arguments))
    timings = race([Contender(name, "", Spec("tiny", "", variant=name)) for name in "abc"], 3, together=True)
    assert "".join(turns) == "aabbcc" + "abc" + "abc" + "ac"
    assert [timing.failure for timing in timings] == ["", "MemoryError: too much", ""]
    turns.clear()
    race([Contender(name, "", Spec("tiny", "", variant=name)) for name in "ac"], 2, together=False)
    assert "".join(turns) == "aaaacccc"


def test_ratios():
    def timing(name, seconds, cpu_seconds, gigabytes, **spec):
        spec = Spec("tiny", "", frames=5, size=10, batch=2, **spec)
        return Timing(name, spec, seconds, cpu_seconds, gigabytes * 10**9)

    timings = [
        timing("this package", [1.0, 2.0, 9.0], [3.0], 1),
        timing("folded", [1.0], [1.5], 1, variant="folded"),
        timing("PyTorch", [8.0], [6.0], 4, variant="contiguous"),
        Timing("PyTorch, compiled", Spec("tiny", "", task="step"), failure="no compiler"),
    ]
    table = timings_rows(timings, macs={"": 1e9, "folded": 9e8}, limits={"convolution float32": [2000.0]})
    rows = [[cell.strip() for cell in line.split("|")[4:-1]] for line in table.splitlines()]
    # 2 * 5 * 10 * 10 pixels of frames, 1 GMAC each, in 2 s: 1000 GFLOP/s.
    assert rows[0] == ["2.000 (1.000-9.000)", "3.000", "1.00 GB", "4.00", "2.00", "0.25", "1,000", "50%"]
    assert rows[1] == ["1.000 (1.000-1.000)", "1.500", "1.00 GB", "8.00", "4.00", "0.25", "1,800", "90%"]
    assert rows[2] == ["8.000 (8.000-8.000)", "6.000", "4.00 GB", "1.00", "1.00", "1.00", "250", "12%"]
    assert rows[3] == ["no compiler", *[""] * 7]
    assert len(rows[3]) + 3 == TIMINGS_HEAD.splitlines()[-1].count("---")


def test_a_gpu_needs_jax(monkeypatch, capsys):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert command.main(["--device=gpu"]) == 1
    assert "Set KERAS_BACKEND=jax" in capsys.readouterr().err


def test_what_cannot_run_says_why(here):
    with pytest.raises(CannotRun, match="ZeroDivisionError: division by zero"):
        processes.once("operator", "truediv", 1, 0)
