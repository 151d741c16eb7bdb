"""What TensorBoard shows of a run: its curves, and maps of a few validation patches after each epoch."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
from scipy.special import expit

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.batches import Batches
from training.data import TrainingData

# Validation patches shown, and the bands of a picture from red to blue where they are there.
_SHOWN = 4
_COLOURS = ("B04", "B03", "B02")
# Reflectance shown as white.
_WHITE = 0.3


def tensorboard_callbacks(folder: Path, data: TrainingData) -> list[keras.callbacks.Callback]:
    """Curves and maps for TensorBoard; nothing without TensorFlow, whose files they are."""
    if importlib.util.find_spec("tensorflow") is None:
        print("TensorFlow is not installed: no TensorBoard files, log.csv has the figures")
        return []
    curves = keras.callbacks.TensorBoard(str(folder), write_graph=False)
    return [curves, ValidationMaps(folder / "validation_maps", data.validation, data.bands, data.scale)]


class ValidationMaps(keras.callbacks.Callback):
    """Writes image, probability and label of the first validation patches, side by side, after each epoch.

    Args:
        folder: where TensorBoard looks.
        batches: validation batches.
        bands: names of the bands.
        scale: how many times finer labels are than images.
    """

    def __init__(self, folder: Path, batches: Batches, bands: tuple[str, ...], scale: int):
        super().__init__()
        self.folder, self.batches, self.bands, self.scale = folder, batches, bands, scale

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        batch = self.batches[0]
        images, label = batch.images[:_SHOWN] / np.float32(QUANTIFICATION), batch.label[:_SHOWN].astype("float32")
        mask = np.arange(images.shape[1]) < batch.num_frames[:_SHOWN, None]
        # Not predict_on_batch, in which several workers would wait for each other, and only the chief is here.
        outputs = self.model({"images": images.astype("float32"), "frame_mask": mask}, training=False)
        logits = keras.ops.convert_to_numpy(outputs)[..., :1]
        numbers = [self.bands.index(name) if name in self.bands else 0 for name in _COLOURS]
        # Zeros are padding, or were not seen.
        seen = np.where(images > 0, images, np.nan)[..., numbers]
        with np.errstate(all="ignore"):
            colour = np.nansum(seen, axis=1) / np.maximum(np.isfinite(seen).sum(axis=1), 1)
        colour = np.clip(colour / _WHITE, 0, 1).repeat(self.scale, axis=1).repeat(self.scale, axis=2)
        grey = [np.repeat(values, 3, axis=-1) for values in (expit(logits), label)]
        with tf.summary.create_file_writer(str(self.folder)).as_default():
            tf.summary.image(
                "image, probability, label", np.concatenate([colour, *grey], axis=2), step=epoch, max_outputs=_SHOWN
            )
