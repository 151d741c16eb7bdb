"""How much memory there is, of the machine and of a container."""

import psutil
import pytest

from spinet_tf import memory


def test_a_machine_has_what_psutil_says(monkeypatch):
    monkeypatch.setattr(memory, "_LIMITS", ())
    assert memory.memory_at_hand() == psutil.virtual_memory().total


@pytest.mark.parametrize(("text", "limit"), [("1073741824\n", 2**30), ("max\n", None), (str(2**63), None)])
def test_a_container_has_less(tmp_path, monkeypatch, text, limit):
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(memory, "_LIMITS", (str(tmp_path / "no"), str(tmp_path / "memory.max")))
    assert memory.memory_at_hand() == (limit or psutil.virtual_memory().total)
