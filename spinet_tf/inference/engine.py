"""What turns tiles into probabilities: a Keras model here, or a server elsewhere."""

import os
from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

import keras
import numpy as np
from keras import ops

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.errors import SpinetError
from spinet_tf.models.answers import probability, uncertainty
from spinet_tf.models.folded import folded
from spinet_tf.models.scene_means import has_means
from spinet_tf.models.spinet import SPInet
from spinet_tf.tiling import Means


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


class MeansEngine(Engine, Protocol):
    """An engine that can answer tiles with the means of their scene."""

    @property
    def takes_means(self) -> bool:
        """Whether its model is one that has such means."""

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """The means that TEFA and TERN take over tiles."""

    def predict_with_means(self, images: np.ndarray, num_frames: np.ndarray, means: Means) -> np.ndarray:
        """Answer as `predict`, with means from elsewhere."""


class UncertainEngine(Engine, Protocol):
    """An engine whose model also says how uncertain its answers are."""

    @property
    def gives_uncertainty(self) -> bool:
        """Whether its model is one that does."""

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """Answer with probabilities and, if asked for, their uncertainty as a second feature."""

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Answer as `predict`, with means from elsewhere; only where it takes them."""


def gives_uncertainty(engine: Engine) -> TypeGuard[UncertainEngine]:
    """Whether an engine's model says how uncertain its answers are."""
    return getattr(engine, "gives_uncertainty", False)


def takes_means(engine: Engine) -> TypeGuard[MeansEngine]:
    """Whether an engine can answer tiles with the means of their scene."""
    return getattr(engine, "takes_means", False)


class KerasEngine:
    """A Keras segmentation model behind the interface of the exported SavedModel.

    Of a `SPInet` it runs the exact inference form, see `spinet_tf.models.folded`, with the weights that it has now.

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
        self.takes_means = has_means(model)
        self.sizes: dict[str, int] | None = None
        if isinstance(model, SPInet):
            sizes = {"filters": model.filters, "blocks": model.tefa_blocks, "heads": model.heads}
            self.sizes = {**sizes, "scale": model.scale}
            model = folded(model)
        self.gives_uncertainty: bool = getattr(model, "uncertainty", False)
        self._answers = {wanted: _Answers(model, wanted) for wanted in (False, self.gives_uncertainty)}
        if self.takes_means:
            self._means = _Means(model)
            self._with_means = {wanted: _WithMeans(model, wanted) for wanted in self._answers}
            self._shape_of_means = (model.tefa_blocks, model.filters)

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """Return the probability of cultivated land.

        Args:
            images: uint16 (batch, time, h, w, bands), digital numbers.
            num_frames: int32 (batch,), how many of the frames are real, the first ones.
            uncertainty: whether `spinet_tf.models.answers.uncertainty` is a second feature; only of a model with it.

        Returns:
            float32 (batch, scale * h, scale * w, 1 or 2).
        """
        return self._answers[uncertainty].predict_on_batch(_inputs(images, num_frames))

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """Return the means that TEFA and TERN take over each tile; only of a `SPInet`."""
        blocks, frames = unknown_means(len(images), images.shape[1], *self._shape_of_means)
        inputs = {**_inputs(images, num_frames), "block_means": blocks, "frame_means": frames}
        return Means(*self._means.predict_on_batch(inputs))

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Return what `predict` does, with means from elsewhere; only of a `SPInet`."""
        inputs = {**_inputs(images, num_frames), "block_means": means.blocks, "frame_means": means.frames}
        return self._with_means[uncertainty].predict_on_batch(inputs)


def answer_names(uncertainty: bool) -> list[str]:
    """The outputs of an exported model that make up an engine's answer."""
    return ["probabilities", "uncertainty"] if uncertainty else ["probabilities"]


def stacked(answers: Mapping[str, Any], uncertainty: bool) -> np.ndarray:
    """The outputs of an exported model as an engine's answer, see `KerasEngine.predict`."""
    if not uncertainty:
        return np.asarray(answers["probabilities"])
    return np.concatenate([np.asarray(answers[name]) for name in answer_names(uncertainty)], axis=-1)


def unknown_means(batch: int, time: int, blocks: int, filters: int) -> Means:
    """Means that leave each tile its own."""
    return Means(np.full((batch, blocks, filters), np.nan, "f"), np.full((batch, time, filters), np.nan, "f"))


def _inputs(images: np.ndarray, num_frames: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "images": images.astype(np.float32) / np.float32(QUANTIFICATION),
        "frame_mask": np.arange(images.shape[1]) < num_frames[:, None],
    }


class _Answers(keras.Model):
    """Logits to probabilities: a model of its own, so that the caller's model keeps its compiled state."""

    def __init__(self, model: keras.Model, uncertainty: bool = False):
        super().__init__(name=type(self).__name__.strip("_"))
        self.model = model
        self.uncertainty = uncertainty
        # XLA would compile anew for every tile size and number of frames; JAX has nothing else.
        self.jit_compile = keras.backend.backend() == "jax"

    def call(self, inputs):
        return self.answer(self.model(inputs, training=False))

    def make_predict_function(self, force=False):
        """As Keras makes it; on TensorFlow with one graph, for tiles of any size and number."""
        made = self.predict_function is None or force
        super().make_predict_function(force)
        # A model that is no functional one does not say what it takes.
        if made and keras.backend.backend() == "tensorflow" and isinstance(getattr(self.model, "input", None), dict):
            import tensorflow as tf

            # Keras would trace a graph for the first tiles, and another for each way in which later ones differ.
            shapes = {name: tf.TensorSpec(given.shape, given.dtype) for name, given in self.inputs_taken().items()}
            self.predict_function.get_concrete_function([(shapes,)])
        return self.predict_function

    def inputs_taken(self):
        """What `call` takes, by name; anything with a shape and a dtype."""
        return self.model.input

    def answer(self, outputs):
        """Probabilities and, where wanted, their uncertainty."""
        if not self.uncertainty:
            return probability(outputs)
        return ops.concatenate([probability(outputs), uncertainty(outputs)], axis=-1)


class _WithMeans(_Answers):
    """The same with the means as inputs."""

    def inputs_taken(self):
        blocks, filters = self.model.tefa_blocks, self.model.filters
        means = {
            "block_means": keras.KerasTensor((None, blocks, filters)),
            "frame_means": keras.KerasTensor((None, None, filters)),
        }
        return {**super().inputs_taken(), **means}

    def call(self, inputs):
        outputs, _, _ = self.model.call_with_means(inputs, inputs["block_means"], inputs["frame_means"])
        return self.answer(outputs)


class _Means(_WithMeans):
    """The means alone; what follows them is not computed."""

    def call(self, inputs):
        _, blocks, frames = self.model.call_with_means(inputs, inputs["block_means"], inputs["frame_means"])
        return blocks, frames


def as_engine(model: keras.Model | Engine | str | os.PathLike) -> Engine:
    """Return `model` itself if it is an engine already, or a Keras model or what `open_engine` opens made into one."""
    if isinstance(model, keras.Model):
        return KerasEngine(model)
    if isinstance(model, str | os.PathLike):
        from spinet_tf.inference.engines import open_engine

        return open_engine(model)
    return model
