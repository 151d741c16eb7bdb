"""What an exported model computes: the functions behind its signatures, whatever file they are written to."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine, stacked, unknown_means
from spinet_tf.models import SPInet
from spinet_tf.models.answers import probability, uncertainty
from spinet_tf.models.folded import folded
from spinet_tf.models.scene_means import call_with_means, has_means
from spinet_tf.tiling import Means

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
        takes_means: whether tiles can be answered with the means of their scene.
        gives_uncertainty: whether it says how uncertain its probabilities are.
        blocks: how many TEFA blocks it has, if so.
        filters: how many features each of their means has, if so.

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
        # The exact inference form; the model itself is what it is compared with.
        self._network = folded(self.model) if isinstance(model, SPInet) else self.model
        _, self.frames, _, _, self.bands = model.input["images"].shape
        self.takes_means = has_means(model)
        self.gives_uncertainty = engine.gives_uncertainty
        self.blocks: int = getattr(model, "tefa_blocks", 0)
        self.filters: int = getattr(model, "filters", 0)

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """Answer as an engine does: the reference for every file made from the model.

        Operation by operation: a graph would be traced anew for every shape, and be optimised as the files' are.
        """
        return self._stacked(self.model(_inputs(images, num_frames), training=False), uncertainty)

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """As an engine does, operation by operation."""
        means = self.unknown_means(*images.shape[:2])
        _, blocks, frames = call_with_means(self.model, _inputs(images, num_frames), *means)
        return Means(blocks.numpy(), frames.numpy())

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """As an engine does, operation by operation."""
        return self._stacked(call_with_means(self.model, _inputs(images, num_frames), *means)[0], uncertainty)

    def _stacked(self, outputs, uncertainty):
        return stacked(self._named(outputs), uncertainty)

    def _named(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the network returns as the outputs of a signature."""
        named = {"probabilities": probability(outputs)}
        if self.gives_uncertainty:
            named["uncertainty"] = uncertainty(outputs)
        return named

    def unknown_means(self, batch: int, time: int) -> Means:
        """Means that leave each tile its own."""
        return unknown_means(batch, time, self.blocks, self.filters)

    @property
    def input_signature(self) -> list[tf.TensorSpec]:
        """The inputs `images` and `num_frames`, with every size open that the model leaves open."""
        return [
            tf.TensorSpec([None, self.frames, None, None, self.bands], tf.uint16, "images"),
            tf.TensorSpec([None], tf.int32, "num_frames"),
        ]

    @property
    def means_signature(self) -> list[tf.TensorSpec]:
        """Those, and the means `block_means` and `frame_means`."""
        return [
            *self.input_signature,
            tf.TensorSpec([None, self.blocks, self.filters], tf.float32, "block_means"),
            tf.TensorSpec([None, None, self.filters], tf.float32, "frame_means"),
        ]

    def answers(self, images: tf.Tensor, num_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        """Digital numbers to `probabilities` and, where the model has it, `uncertainty`, without any check."""
        return self._named(self._network(_inputs(images, num_frames), training=False))

    def answers_with_means(
        self, images: tf.Tensor, num_frames: tf.Tensor, block_means: tf.Tensor, frame_means: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """The same with means from elsewhere; and the images' own means."""
        outputs, blocks, frames = self._network.call_with_means(_inputs(images, num_frames), block_means, frame_means)
        return self._named(outputs), blocks, frames

    def signatures(self) -> dict[str, tuple[Callable, list[tf.TensorSpec]]]:
        """Functions by the names of their signatures, and what they take; they share one graph of the network."""
        if self.takes_means:
            network = tf.function(self.answers_with_means, input_signature=self.means_signature)
        else:
            network = tf.function(self.answers, input_signature=self.input_signature)

        def own(images, num_frames):
            """What the network answers with the images' own means, if it has any."""
            images = _checked(images, self._checks(images, num_frames))
            if not self.takes_means:
                return [network(images, num_frames)]
            batch, time = tf.shape(images)[0], tf.shape(images)[1]
            unknown = (tf.fill([batch, length, self.filters], np.float32("nan")) for length in (self.blocks, time))
            return network(images, num_frames, *unknown)

        def means(images, num_frames):
            _, block_means, frame_means = own(images, num_frames)
            return {"block_means": block_means, "frame_means": frame_means}

        def with_means(images, num_frames, block_means, frame_means):
            checks = [*self._checks(images, num_frames), *self._checks_of_means(images, block_means, frame_means)]
            return network(_checked(images, checks), num_frames, block_means, frame_means)[0]

        def uint8(images, num_frames):
            return {name: as_uint8(answer) for name, answer in own(images, num_frames)[0].items()}

        return {
            "serving_default": (lambda *given: own(*given)[0], self.input_signature),
            "uint8": (uint8, self.input_signature),
            "describe": (self.describe, [tf.TensorSpec([None], tf.int32, "request")]),
            **({"means": (means, self.input_signature)} if self.takes_means else {}),
            **({"with_means": (with_means, self.means_signature)} if self.takes_means else {}),
        }

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

    def _checks_of_means(self, images, block_means, frame_means):
        shape = tf.shape(images)
        for name, means, length in (("block_means", block_means, self.blocks), ("frame_means", frame_means, shape[1])):
            # The number of values, for the reason given above.
            fits = tf.reduce_all(tf.shape(means)[:2] == [shape[0], length])
            fits &= tf.equal(tf.size(means), shape[0] * length * self.filters)
            expected = tf.stack([shape[0], length, self.filters])
            yield fits, [f"Expected {name} of shape", expected, "Received:", tf.shape(means)]

    def describe(self, request: tf.Tensor) -> dict[str, tf.Tensor]:
        """Bands and scale, once for each number in `request`."""
        n = tf.size(request)
        bands = tf.constant(list(self.band_names or ()), tf.string)
        return {"bands": tf.tile(bands[None], [n, 1]), "scale": tf.fill([n], self.scale)}


def _inputs(images: tf.Tensor, num_frames: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "images": tf.cast(images, tf.float32) / QUANTIFICATION,
        "frame_mask": tf.range(tf.shape(images)[1]) < num_frames[:, None],
    }


def _checked(images: tf.Tensor, checks: list) -> tf.Tensor:
    for condition, message in checks:
        # One after the other, and before the network: the first thing wrong is what the client is told.
        with tf.control_dependencies([tf.debugging.Assert(condition, message, summarize=16)]):
            images = tf.identity(images)
    return images


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
