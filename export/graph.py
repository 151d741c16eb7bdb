"""What an exported model computes: the functions behind its signatures, whatever file they are written to."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine

# The uint8 signature's greatest answer, a probability of 1. 255 stays free for nodata, and 127 is exactly one half.
UINT8_SCALE = 254


class Exportable:
    """A segmentation model as it leaves: in float32, with its input's fixed sizes and its functions for a graph.

    A model trained under another dtype policy is rebuilt in float32 with the same weights, which are float32 under
    every policy: bfloat16 would be slow on most processors, and ONNX Runtime has it for few operations.

    Args:
        model: as `SPInet`: {"images", "frame_mask"} -> logits, with the attributes `band_names` and `scale`.

    Attributes:
        model: in float32.
        band_names: the bands in order; None where the model has no names for them.
        scale: how many times finer its answer is than its input.
        bands: how many bands it takes.
        frames: how many frames it takes; None for any number.

    Raises:
        SpinetError: if the backend is not TensorFlow, or it is not a segmentation model.
    """

    def __init__(self, model: keras.Model):
        if keras.backend.backend() != "tensorflow":
            raise SpinetError(
                f"Export needs the TensorFlow backend of Keras. Received: {keras.backend.backend()}. "
                "Set KERAS_BACKEND=tensorflow."
            )
        # Refuses what is no segmentation model.
        engine = KerasEngine(model)
        self.band_names = engine.band_names
        self.scale = engine.scale
        self.model = _in_float32(model)
        _, self.frames, _, _, self.bands = model.input["images"].shape

    def predict(self, images: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
        """Answer as an engine does: the reference for every file made from the model.

        Operation by operation: a graph would be traced anew for every shape, and be optimised as the files' are.
        """
        reflectance = images.astype(np.float32) / np.float32(QUANTIFICATION)
        frame_mask = np.arange(images.shape[1]) < num_frames[:, None]
        logits = self.model({"images": reflectance, "frame_mask": frame_mask}, training=False)
        return tf.sigmoid(logits).numpy()

    @property
    def input_signature(self) -> list[tf.TensorSpec]:
        """The inputs `images` and `num_frames`, with every size open that the model leaves open."""
        return [
            tf.TensorSpec([None, self.frames, None, None, self.bands], tf.uint16, "images"),
            tf.TensorSpec([None], tf.int32, "num_frames"),
        ]

    def probabilities(self, images: tf.Tensor, num_frames: tf.Tensor) -> tf.Tensor:
        """Digital numbers to probabilities, without any check."""
        reflectance = tf.cast(images, tf.float32) / QUANTIFICATION
        frame_mask = tf.range(tf.shape(images)[1]) < num_frames[:, None]
        logits = self.model({"images": reflectance, "frame_mask": frame_mask}, training=False)
        return tf.sigmoid(tf.cast(logits, tf.float32))

    def checked_probabilities(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """`probabilities` as one graph that several signatures share, behind checks that say what is wrong."""

        @tf.function(input_signature=self.input_signature)
        def checked(images, num_frames):
            for condition, message in self._checks(images, num_frames):
                # One after the other, and before the network: the first thing wrong is what the client is told.
                with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=16)]):
                    images = tf.identity(images)
            return self.probabilities(images, num_frames)

        return checked

    def _checks(self, images, num_frames):
        names = "" if self.band_names is None else f" ({', '.join(self.band_names)})"
        fixed = f"{self.bands} bands{names}" + (f" and {self.frames} frames" if self.frames else "")
        shape = tf.shape(images)
        time = self.frames or shape[1]
        return [
            (
                tf.reduce_min(shape) > 0,
                ["Expected images with at least one sample, frame, row and column. Received the shape", shape],
            ),
            (
                # The signature fixes the number of bands, so a graph optimiser may take shape[4] for granted, though
                # TensorFlow Serving does not check it. The number of values it cannot know.
                tf.equal(tf.size(images), shape[0] * time * shape[2] * shape[3] * self.bands),
                [f"Expected images of {fixed}. Received the shape", shape],
            ),
            (
                tf.equal(tf.size(num_frames), shape[0]),
                ["Expected one num_frames per sample of a batch of", shape[0], "Received:", num_frames],
            ),
            (
                tf.reduce_all((num_frames >= 1) & (num_frames <= time)),
                ["Expected num_frames from 1 to the number of frames,", time, "Received:", num_frames],
            ),
        ]

    def describe(self, request: tf.Tensor) -> dict[str, tf.Tensor]:
        """Bands and scale, once for each number in `request`."""
        n = tf.size(request)
        bands = tf.constant(list(self.band_names or ()), tf.string)
        return {"bands": tf.tile(bands[None], [n, 1]), "scale": tf.fill([n], self.scale)}


def as_uint8(probabilities: tf.Tensor) -> tf.Tensor:
    """Probabilities in steps of 1 / 254, rounded to the nearest: 0 to 254, never 255."""
    return tf.cast(tf.round(probabilities * UINT8_SCALE), tf.uint8)


def _in_float32(model: keras.Model) -> keras.Model:
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    config = model.get_config()
    if "dtype" not in config:
        raise SpinetError(f"Expected a model in float32. Received: {type(model).__name__} in another precision.")
    in_float32 = type(model).from_config({**config, "dtype": "float32"})
    in_float32.set_weights(model.get_weights())
    return in_float32
