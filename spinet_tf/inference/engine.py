"""What turns tiles into probabilities: a Keras model here, or a server elsewhere."""

import os
from typing import Protocol

import keras
import numpy as np
from keras import ops

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import SpinetError


class Engine(Protocol):
    """Anything that answers as the SavedModel does; the client of a model server gives one too."""

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """The bands it takes, in order; None where it does not say."""

    @property
    def scale(self) -> int:
        """How many times finer its answer is than its input."""

    def predict(self, images: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
        """Answer (images uint16 (batch, time, h, w, bands), num_frames int32 (batch,)) with probabilities."""


class KerasEngine:
    """A Keras segmentation model behind the interface of the exported SavedModel.

    Args:
        model: as `SPInet`: {"images", "frame_mask"} -> logits, with the attributes `band_names` and `scale`.

    Raises:
        SpinetError: if the model lacks those attributes.

    Example:
        KerasEngine(model).predict(np.zeros((1, 5, 32, 32, 12), np.uint16), np.array([5], np.int32))
    """

    def __init__(self, model: keras.Model):
        missing = [name for name in ("band_names", "scale") if not hasattr(model, name)]
        if missing:
            raise SpinetError(
                f"Expected a segmentation model such as SPInet. Received: {type(model).__name__} "
                f"without the attribute {' and '.join(missing)}."
            )
        self.band_names: tuple[str, ...] | None = model.band_names
        self.scale: int = model.scale
        self._probabilities = _Probabilities(model)

    def predict(self, images: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
        """Return the probability of cultivated land, float32 (batch, scale * h, scale * w, 1)."""
        return self._probabilities.predict_on_batch(
            {
                "images": images.astype(np.float32) / np.float32(QUANTIFICATION),
                "frame_mask": np.arange(images.shape[1]) < num_frames[:, None],
            }
        )


class _Probabilities(keras.Model):
    """Logits to probabilities: a model of its own, so that the caller's model keeps its compiled state."""

    def __init__(self, model: keras.Model):
        super().__init__(name="probabilities")
        self.model = model
        # XLA would compile anew for every tile size and number of frames; JAX has nothing else.
        self.jit_compile = keras.backend.backend() == "jax"

    def call(self, inputs):
        return ops.sigmoid(ops.cast(self.model(inputs, training=False), "float32"))


def as_engine(model: keras.Model | Engine | str | os.PathLike) -> Engine:
    """Return `model` itself if it is an engine already, or a Keras model or what `open_engine` opens made into one."""
    if isinstance(model, keras.Model):
        return KerasEngine(model)
    if isinstance(model, str | os.PathLike):
        from spinet_tf.inference.engines import open_engine

        return open_engine(model)
    return model
