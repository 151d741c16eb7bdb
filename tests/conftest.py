"""Fixtures shared by all tests."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import spinet_tf

BESIDE = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def scene_data():
    """The folder of real scenes, which the project may not ship."""
    folder = Path(os.environ.get("SPINET_DATA", BESIDE / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scenes at {folder}: set SPINET_DATA")
    return folder


@pytest.fixture(scope="session")
def goldens():
    """A function from a golden file's name to its arrays, which the project may not ship."""
    folder = Path(os.environ.get("SPINET_GOLDENS", BESIDE / "goldens"))
    if not folder.is_dir():
        pytest.skip(f"no golden vectors at {folder}: set SPINET_GOLDENS")

    def load(name):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def tiny_spinet():
    """The whole network at the smallest sizes, untrained."""
    keras.utils.set_random_seed(1)
    return spinet_tf.SPInet(filters=8, tefa_blocks=1, bottleneck=2)
