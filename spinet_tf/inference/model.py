"""Loading a trained model from its file."""

import json
import os
import zipfile
from pathlib import Path

import keras

from spinet_tf.errors import SpinetError


def load_model(path: str | os.PathLike) -> keras.Model:
    """Load a `.keras` file for inference: layers of this package are known, code in the file is never run.

    Args:
        path: the file, such as `best.keras` of a training run.

    Returns:
        The model, not compiled.

    Raises:
        SpinetError: if there is no such file, or it is not a Keras model that can be read safely.

    Example:
        model = load_model("runs/demo/best.keras")
    """
    path = Path(path)
    if not path.is_file():
        raise SpinetError(
            f"Expected a .keras model file. Received: {path}, which is {'a folder' if path.is_dir() else 'not there'}."
        )
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise SpinetError(f"Expected a .keras model file, as model.save() writes it. {path} is not one.")
    try:
        _require_fitting_sizes(path)
        return keras.models.load_model(path, compile=False)
    except SpinetError:
        raise
    # A damaged archive fails in many ways, depending on the place of the damage and on the backend.
    except Exception as error:
        raise SpinetError(f"Cannot load the model {path}: {str(error) or type(error).__name__}") from error


def _require_fitting_sizes(path: Path) -> None:
    """Refuse a network of this package that is larger than its weights: building it could take forever."""
    with zipfile.ZipFile(path) as archive:
        model = json.loads(archive.read("config.json"))
        # At two bytes for a weight, or more.
        held = archive.getinfo("model.weights.h5").file_size // 2
    if not str(model.get("registered_name", "")).startswith("spinet_tf>"):
        return
    sizes = {name: size for name, size in model["config"].items() if isinstance(size, int | float)}
    blocks = max((size for name, size in sizes.items() if name.endswith("blocks")), default=0)
    # A block has two convolutions, 3 x 3 or more, at least.
    if max(sizes.values(), default=0) > held or blocks * 18 * sizes.get("filters", 1) ** 2 > held:
        shown = ", ".join(f"{name} {size:g}" for name, size in sizes.items())
        raise SpinetError(
            f"Expected a model whose sizes fit its weights. {path} holds at most {held:,} of them, and its sizes are "
            f"{shown}. The file is damaged: take another copy of it."
        )
