"""The README's Python runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.saved_model import export_saved_model
from serving.server import Server
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.models import spinet

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def block(word):
    """The one block of Python that holds a word."""
    (found,) = [text for text in BLOCKS if word in text]
    return found


@pytest.fixture
def folder(tiny_spinet, tmp_path, monkeypatch):
    """A folder with what the README takes for granted; the work is done by tiny networks."""
    tiny_spinet.save(tmp_path / "best.keras")
    simulate_eopatch(tmp_path / "my" / "eopatch", seed=[1, 1], size=(16, 18), dates=4)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(1, 9000, (5, 7, 9, 12), np.uint16))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(spinet.CONFIGURATIONS, "small", {"filters": 8, "tefa_blocks": 1, "bottleneck": 2})
    return tmp_path


def test_every_block_is_tried_here():
    assert len(BLOCKS) == 4


def test_models_and_scenes(folder):
    names = {}
    exec(block("open_scene"), names)
    assert names["probability"].shape == (64, 72)
    assert names["probability"].rio.crs is not None


def test_training_on_ones_own_data(folder, rng):
    names = {
        "my_samples": [
            (rng.integers(1, 9000, (time, 8, 8, 12), np.uint16), rng.integers(0, 2, (32, 32, 1), np.uint8))
            for time in (3, 1, 2)
        ]
    }
    text = block("ragged_batch")
    for long, short in (("128, 128", "32, 32"), ("None, 32, 32", "None, 8, 8"), ("=100", "=2"), ("=10,", "=1,")):
        assert long in text
        text = text.replace(long, short)
    exec(text, names)
    (loss,) = names["history"].history["loss"]
    assert 0 < loss < 5


@pytest.mark.slow
def test_an_application_of_its_own(folder):
    text = block("images.npy") + "\nprint(probability.shape, float(probability.min()), float(probability.max()))"
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=folder)
    assert run.stdout.startswith("(28, 36) 0.")


def test_the_client(folder, tiny_spinet):
    export_saved_model(tiny_spinet, folder / "spinet", version=1, warmup_lengths=[1], warmup_sizes=[4])
    with Server(folder / "spinet", port=0) as server:
        names = {"images": np.random.default_rng(0).integers(1, 9000, (2, 4, 6, 5, 12), np.uint16)}
        exec(block("spinet_client").replace("127.0.0.1:8500", server.address), names)
    assert names["probabilities"].shape == (2, 24, 20, 1)
