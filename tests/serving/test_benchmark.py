"""The benchmark of the server runs and finds what goes wrong; what it measures is in tests/benchmarks/README.md."""

import argparse
import re
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from serving.server import Server
from serving.session import SavedModelSession
from tests.benchmarks import serving


@pytest.fixture(scope="module")
def session(model_dir):
    with SavedModelSession(model_dir / "2") as session:
        yield session


@pytest.fixture(scope="module")
def address(model_dir):
    with Server(model_dir, port=0, warmup=False, grpc_max_threads=2) as server:
        yield server.address


@pytest.fixture(autouse=True)
def served_here(monkeypatch, address):
    """A server in this process for all: one of its own takes seconds to start."""

    @contextmanager
    def served(folder, flags, batching):
        yield address, psutil.Process()

    monkeypatch.setattr(serving, "served", served)
    monkeypatch.setattr(serving, "SOAK_SIZE", 8)


def test_the_server_is_measured(session, tmp_path, capsys):
    serving.measure_overhead(tmp_path, session, size=8, frames=2, repeats=1)
    assert re.search(r"gRPC adds -?\d+ ms, -?[\d.]+% ", capsys.readouterr().out)
    arguments = argparse.Namespace(sizes=[8], clients=[1, 2], frames=2, seconds=0.05)
    assert serving.measure_load(tmp_path, session, arguments) == []
    rows = re.findall(r"\| (off|on) \| 8 \| (1|2) \| [\d.]+ \| [\d.]+ \| \d", capsys.readouterr().out)
    assert rows == [("off", "1"), ("off", "2"), ("on", "1"), ("on", "2")]


def test_the_server_is_soaked(session, tmp_path, capsys):
    errors = serving.soak(tmp_path, session, frames=2, seconds=0.5)
    assert [error for error in errors if "memory grew" not in error] == []
    assert re.search(r"\d+ tiles of 8x8, [\d.]+/s; [1-9]\d* refused", capsys.readouterr().out)


def test_wrong_answers_and_growing_memory_are_found(session, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "SOAK_CLIENTS", 1)
    right = serving.cases
    monkeypatch.setattr(
        serving, "cases", lambda *args: [case._replace(expected=case.expected + 1) for case in right(*args)]
    )
    sizes = iter(np.arange(1, 10_000) * serving.MIB)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: argparse.Namespace(rss=next(sizes)))
    errors = set(serving.soak(tmp_path, session, frames=1, seconds=1.2))
    assert "a wrong answer" in errors
    assert "The server was not saturated: nothing was refused" in errors
    assert any("memory grew" in error for error in errors)
