"""A SavedModel as an engine."""

import os
from pathlib import Path

import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import stacked
from spinet_tf.tiling import Means


class SavedModelEngine:
    """A SavedModel run by TensorFlow, behind the interface of `KerasEngine`. None of the model's own code is needed.

    Args:
        directory: a version as `export.saved_model` writes it, or the folder of versions, of which the latest is taken.

    Attributes:
        band_names: the bands it takes, in order; None where it does not name them.
        scale: how many times finer its answer is than its input.
        takes_means: whether tiles can be answered with the means of their scene.
        gives_uncertainty: whether the model says how uncertain its answers are.

    Raises:
        SpinetError: if there is no SavedModel, TensorFlow cannot load it, or it lacks a signature.

    Example:
        SavedModelEngine("models/spinet").predict(images, num_frames)
    """

    def __init__(self, directory: str | os.PathLike):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise SpinetError(f"A SavedModel needs TensorFlow ({error}). Run: pip install tensorflow") from error
        directory = latest_version(Path(directory))
        try:
            # Kept, because the signatures live as long as what was loaded.
            self._loaded = tf.saved_model.load(str(directory))
            signatures = self._loaded.signatures
            self._predict, describe = signatures["serving_default"], signatures["describe"]
            self._means, self._with_means = signatures.get("means"), signatures.get("with_means")
            self.takes_means = "with_means" in signatures
            self.gives_uncertainty = "uncertainty" in self._predict.structured_outputs
            described = describe(request=tf.zeros(1, tf.int32))
            self.band_names = tuple(name.decode() for name in described["bands"].numpy()[0]) or None
            self.scale = int(described["scale"].numpy()[0])
        # A damaged file fails while it is parsed, while the graph is built or while the variables are restored.
        except Exception as error:
            raise SpinetError(f"Cannot load {directory} as a SavedModel of export.saved_model: {error}") from error

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """As `KerasEngine.predict`."""
        return stacked(self._predict(images=images, num_frames=num_frames), uncertainty)

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """Return the means that TEFA and TERN take over each tile."""
        answer = self._means(images=images, num_frames=num_frames)
        return Means(answer["block_means"].numpy(), answer["frame_means"].numpy())

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Return what `predict` does, with means from elsewhere."""
        given = {"block_means": means.blocks, "frame_means": means.frames}
        return stacked(self._with_means(images=images, num_frames=num_frames, **given), uncertainty)


def latest_version(directory: Path) -> Path:
    """Return `directory` if it holds a SavedModel, else the subfolder with the highest number that does.

    Raises:
        SpinetError: if there is none.
    """
    if (directory / "saved_model.pb").is_file():
        return directory
    versions = [path.parent for path in directory.glob("*/saved_model.pb") if path.parent.name.isdecimal()]
    if not versions:
        raise SpinetError(
            f"Expected a SavedModel, such as {directory / '1' / 'saved_model.pb'}. There is none. "
            f"Write one: python -m export.saved_model MODEL.keras {directory}"
        )
    return max(versions, key=lambda path: int(path.name))
