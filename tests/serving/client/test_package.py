"""What the distribution is: small, quick to import, and the same as the library where it must be."""

import ast
import configparser
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import spinet_tf

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / "serving" / "client"
PACKAGE = CLIENT / "spinet_client"


def imports():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.split(".")[0]


def test_it_imports_numpy_grpc_and_protobuf_only():
    assert set(imports()) - set(sys.stdlib_module_names) == {"spinet_client", "numpy", "grpc", "google"}


def test_it_is_of_the_librarys_version_and_licence():
    config = configparser.ConfigParser()
    config.read(CLIENT / "setup.cfg")
    assert config["metadata"]["version"] == spinet_tf.__version__
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_its_tiling_is_the_librarys():
    assert (PACKAGE / "tiling").resolve() == ROOT / "spinet_tf" / "tiling"


@pytest.mark.slow
def test_it_imports_in_a_second_and_150_mb_and_leaves_protobufs_pool_alone():
    program = """
import time
start = time.process_time()
import spinet_client, spinet_client.cli, spinet_client.engine
seconds = time.process_time() - start
import json, pathlib, sys
from google.protobuf import descriptor_pool
try:
    descriptor_pool.Default().FindMessageTypeByName("tensorflow.TensorProto")
    registered = True
except KeyError:
    registered = False
# Not resource.getrusage, which counts what the parent held before the program began.
status = pathlib.Path("/proc/self/status").read_text()
megabytes = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([seconds, megabytes, registered, [name.split(".")[0] for name in sys.modules]]))
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    seconds, megabytes, registered, modules = json.loads(run.stdout)
    assert run.stderr == ""
    assert seconds < 1
    assert megabytes < 150
    assert not registered
    assert not {"tensorflow", "keras", "spinet_tf", "jax", "torch"} & set(modules)


@pytest.mark.slow
def test_wheel_and_source_distribution_hold_the_files_of_the_link(tmp_path):
    copy = tmp_path / "serving" / "client"
    ignore = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(CLIENT, copy, symlinks=True, ignore=ignore)
    shutil.copytree(ROOT / "spinet_tf" / "tiling", tmp_path / "spinet_tf" / "tiling", ignore=ignore)
    shutil.copy(ROOT / "LICENSE", tmp_path)

    def build(hook):
        program = f"import sys; from setuptools import build_meta; print(build_meta.{hook}(sys.argv[1]))"
        command = [sys.executable, "-c", program, tmp_path]
        return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True).stdout.split()[-1]

    wheel, source = build("build_wheel"), build("build_sdist")
    modules = {path.relative_to(CLIENT).as_posix(): path.read_bytes() for path in PACKAGE.rglob("*.py")}
    modules |= {f"spinet_client/tiling/{path.name}": path.read_bytes() for path in (PACKAGE / "tiling").glob("*.py")}
    modules["spinet_client/protos.binpb"] = (PACKAGE / "protos.binpb").read_bytes()
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert {name: archive.read(name) for name in names} == modules
    with tarfile.open(tmp_path / source) as archive:
        top = source.removesuffix(".tar.gz")
        for name, content in modules.items():
            assert archive.getmember(f"{top}/{name}").isfile()
            assert archive.extractfile(f"{top}/{name}").read() == content
        assert f"{top}/protos/serving.proto" in archive.getnames()
