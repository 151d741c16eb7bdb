"""Loading a trained model from its file."""

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
        return keras.models.load_model(path, compile=False)
    # A damaged archive fails in many ways, depending on the place of the damage.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, zipfile.BadZipFile) as error:
        raise SpinetError(f"Cannot load the model {path}: {error}") from error
