"""A model named on the command line, whatever form it has."""

import os
from importlib.metadata import entry_points
from pathlib import Path

from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.models.presets import PRESETS, preset_path

# Other packages offer engines for addresses "SCHEME://..." by an entry point SCHEME in this group, a function of what
# follows the slashes. The client of the model server, which must not need this package, offers "grpc" so.
GROUP = "spinet_tf.engines"


def open_engine(model: str | os.PathLike) -> Engine:
    """Open a model in any of its forms for inference.

    Args:
        model: a `.keras` file; a SavedModel's folder, or the folder of its versions; an `.onnx` file; the name of a
            preset, such as "tiny-simulated"; or "grpc://host:port/name", a model on a server.

    Returns:
        The engine.

    Raises:
        SpinetError: if there is no such model, it cannot be loaded, or no server answers.

    Example:
        open_engine("grpc://127.0.0.1:8500/spinet").predict(images, num_frames)
    """
    scheme, separator, address = str(model).partition("://")
    if separator:
        return _open_address(scheme, address)
    path = Path(model)
    if path.suffix == ".onnx" and path.is_file():
        from spinet_tf.inference.onnx_engine import OnnxEngine

        return OnnxEngine(path)
    if path.is_dir():
        from spinet_tf.inference.saved_model_engine import SavedModelEngine

        return SavedModelEngine(path)
    if path.is_file():
        return KerasEngine(load_model(path))
    if str(model) in PRESETS:
        return KerasEngine(load_model(preset_path(str(model))))
    raise SpinetError(
        "Expected a .keras file, a SavedModel's folder, an .onnx file, a preset "
        f"({', '.join(PRESETS)}) or grpc://host:port/name. Received: {model}, which is not there."
    )


def _open_address(scheme: str, address: str) -> Engine:
    found = [entry for entry in entry_points(group=GROUP) if entry.name == scheme]
    if not found:
        hint = "Run: pip install ./serving/client" if scheme == "grpc" else "There is grpc://host:port/name."
        raise SpinetError(f"Nothing installed opens models at {scheme}:// addresses. {hint}")
    try:
        return found[0].load()(address)
    # What other packages raise for an address that they cannot use.
    except ValueError as error:
        raise SpinetError(str(error)) from error
