"""Dependencies point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports(path):
    """Modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def packages(folder):
    tiling = ROOT / "spinet_tf" / "tiling"
    files = sorted(path for path in (ROOT / folder).rglob("*.py") if tiling not in path.parents)
    assert files
    return [(path, name.split(".")[0], name) for path in files for name in imports(path)]


@pytest.mark.parametrize("folder", ["spinet_tf/layers", "spinet_tf/models"])
def test_layers_and_models_import_only_keras_and_numpy(folder):
    ours = ("spinet_tf.layers", "spinet_tf.models", "spinet_tf.bands", "spinet_tf.errors", "spinet_tf.metrics")
    for path, package, name in packages(folder):
        allowed = package in {"keras", "numpy", *sys.stdlib_module_names} or name.startswith(ours)
        assert allowed, f"{path} imports {name}"


def test_tiling_imports_only_numpy_and_itself():
    # Relatively, because the server's client carries the same folder under another name.
    for path in (ROOT / "spinet_tf" / "tiling").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, f"{path} imports from outside its folder"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                for name in names:
                    assert name.split(".")[0] in {"numpy", *sys.stdlib_module_names}, f"{path} imports {name}"


def test_in_data_only_the_pipeline_imports_tensorflow():
    users = {path.name for path, package, _ in packages("spinet_tf/data") if package == "tensorflow"}
    assert users == {"pipeline.py"}


def test_the_library_imports_none_of_its_users():
    for path, package, name in packages("spinet_tf"):
        assert package not in {"training", "export", "serving", "tests"}, f"{path} imports {name}"


@pytest.mark.slow
def test_importing_the_library_brings_in_keras_and_its_backend_only():
    def loaded(package):
        run = subprocess.run(
            [sys.executable, "-c", f"import {package}, sys; print(*sys.modules)"],
            env={"KERAS_BACKEND": "jax"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert package == "keras" or run.stderr == ""
        return {name.split(".")[0] for name in run.stdout.split()}

    # Keras itself imports pandas, scikit-learn and matplotlib where they are installed.
    assert loaded("spinet_tf") - loaded("keras") - set(sys.stdlib_module_names) == {"spinet_tf"}
