"""Files that crash the HDF5 library, or hold it up, are met by another process first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spinet_tf.data import hdf5_check, open_scene
from spinet_tf.data.hdf5_check import require_readable_hdf5
from spinet_tf.errors import SpinetError
from tests.fuzz_mutations import mutated
from tests.fuzz_sources import KINDS


@pytest.fixture
def path(tmp_path):
    return KINDS["NetCDF"].make(tmp_path)


@pytest.fixture
def probe(monkeypatch, tmp_path):
    """A function that puts another program in the place of the one that opens files on trial."""

    def replace(program):
        (tmp_path / "hdf5_probe.py").write_text(program)
        monkeypatch.setattr(hdf5_check, "__file__", str(tmp_path / "hdf5_check.py"))
        made = hdf5_check._Probe()
        monkeypatch.setattr(hdf5_check, "_PROBE", made)
        made_probes.append(made)
        return made

    made_probes = []
    yield replace
    for made in made_probes:
        made._stop()


def test_one_process_meets_all_files(path, tmp_path):
    require_readable_hdf5(path)
    process = hdf5_check._PROBE._process
    for n in range(3):
        other = shutil.copy(path, tmp_path / f"{n}.nc")
        require_readable_hdf5(other)
    assert hdf5_check._PROBE._process is process


def test_damage_is_told(path):
    require_readable_hdf5(path)
    path.write_bytes(path.read_bytes()[:1000])  # the answer of before is not remembered
    with pytest.raises(SpinetError, match=r"scene\.nc cannot be read: .*truncated file"):
        open_scene(path)
    path.unlink()
    with pytest.raises(SpinetError, match=r"scene\.nc cannot be read: .*No such file"):
        require_readable_hdf5(path)


def test_a_file_that_crashes_the_library(path, tmp_path):
    """Found by the fuzzer; with other versions of the library it may be refused in another way."""
    path.write_bytes(mutated(path.read_bytes(), np.random.default_rng([0, 4, 111])))
    with pytest.raises(SpinetError, match=r"scene\.nc cannot be read: "):
        open_scene(path)
    good = KINDS["NetCDF"].make(tmp_path)
    assert open_scene(good).sizes["time"] == 3


def test_groups_that_contain_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_check, "_PATIENCE", 10)
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["first/second"] = file.create_group("second")
        file["second/first"] = file["first"]
    require_readable_hdf5(tmp_path / "a.nc")


def test_crashes(path, probe):
    probe("import os, sys\nfor line in sys.stdin:\n    os.abort() if 'scene' in line else print('ok', flush=True)\n")
    with pytest.raises(SpinetError, match="the HDF5 library crashes on it"):
        require_readable_hdf5(path)
    require_readable_hdf5(shutil.copy(path, path.with_name("other.nc")))


def test_hangs(path, probe, monkeypatch):
    probe("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(hdf5_check, "_PATIENCE", 0.1)
    with pytest.raises(SpinetError, match=r"takes more than 0\.1 s"):
        require_readable_hdf5(path)


def test_another_process_starts_its_own(path, probe):
    made = probe("import sys\nfor line in sys.stdin:\n    print('ok', flush=True)\n")
    assert made.ask(str(path)) == "ok"
    first = made._process
    made._owner = os.getpid() + 1  # as after a fork
    assert made.ask(str(path)) == "ok"
    assert made._process is not first
    first.kill()
    first.communicate()


def test_names_with_line_breaks(path):
    other = path.rename(path.with_name("a\nb.nc"))
    with pytest.raises(SpinetError, match="without line breaks"):
        require_readable_hdf5(other)


def test_the_probe_imports_nothing_heavy():
    probe = Path(hdf5_check.__file__).with_name("hdf5_probe.py")
    program = f"import runpy, sys; runpy.run_path({str(probe)!r}); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "h5py" in found
    assert not {"spinet_tf", "keras", "tensorflow", "xarray"} & set(found)
