"""The same command trains on JAX where TensorFlow is not installed, and is resumed there."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
patch: 8
batch: 2
steps: 2
epochs: {epochs}
frame_count: 3
learning_rate: 0.01
model: {{filters: 4, tefa_blocks: 0, bottleneck: 2, fusion: plain}}
average: 0.9
"""

# An import of None fails as that of a package that is not installed.
DRIVER = """
import sys
sys.modules["tensorflow"] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "tensorflow" else found(name, *more)
from training.train import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_training_without_tensorflow(scenes, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(epochs=2))
    command = [sys.executable, "-c", DRIVER, "--config", str(tmp_path / "config.yaml"), "--data", str(scenes)]
    ended = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    assert "TensorFlow is not installed: no TensorBoard files" in ended.stdout
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert all(-1 <= float(row["val_mcc"]) <= 1 and 0 < float(row["loss"]) < 5 for row in rows)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "best.keras",
        "last.keras",
        "log.csv",
        "config.yaml",
        "checkpoint.npz",
    }
