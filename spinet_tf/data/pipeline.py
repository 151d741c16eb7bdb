"""Scenes to batches for `model.fit`, through tf.data: patches of ragged length, padded and masked."""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
import xarray as xr

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.frames import Method, choose_frames
from spinet_tf.data.patches import (
    Patch,
    Weights,
    cut_patch,
    grid_windows,
    label_scale,
    labelled,
    random_patch,
    require_size,
    turn,
)
from spinet_tf.errors import SpinetError

# A scene, or a function that opens it when its turn comes.
Source = xr.Dataset | Callable[[], xr.Dataset]

# Patches drawn from a scene each time its turn comes, and patches among which the next one of a batch is drawn.
_PER_VISIT = 8
_SHUFFLED = 128


def training_dataset(
    scenes: Sequence[Source],
    bands: Sequence[str] | None = None,
    patch: int = 32,
    batch: int = 8,
    frames: Method = "random",
    count: int = 20,
    max_cloud: float = 0.25,
    weights: Weights = "uniform",
    augment: bool = True,
    seed: int = 0,
    memory: int = 2 << 30,
) -> tf.data.Dataset:
    """Batches of random patches without end, from all scenes in turn.

    Each patch has a random place where ground was seen and some label is known, frames chosen by how much clear ground
    they show inside the patch, and one of the 8 flips and rotations. A seed gives the same patches every time.

    Scenes are kept in memory until together they fill `memory` bytes; further ones are opened anew each time their turn
    comes, eight patches at a time. 128 patches wait to be mixed; one of 20 frames of 32x32 pixels and 12 bands takes
    0.5 MB.

    Args:
        scenes: labelled scenes, or functions without arguments that open one. All have labels equally much finer than
            their images.
        bands: names of the bands in the model's order; None for those of the first scene.
        patch: height and width of a patch, in pixels of the images.
        batch: patches in a batch.
        frames: which frames of a patch to take, see `choose_frames`; and `count` and `max_cloud`.
        count: how many frames.
        max_cloud: the cloudy fraction allowed.
        weights: what label pixels weigh, see `labelled`.
        augment: whether patches are flipped and rotated.
        seed: seed of everything random.
        memory: bytes of scenes to keep.

    Returns:
        A dataset of ({"images" float32 (batch, time, patch, patch, bands) reflectance, "frame_mask" bool (batch,
        time)}, label float32 (batch, scale * patch, scale * patch, 1), weight float32 of the same shape). Padding
        frames are 0.

    Raises:
        SpinetError: if there are no scenes, or a scene given as a dataset cannot be used. What is wrong with a scene
            opened later surfaces as a TensorFlow error with the same message.

    Example:
        scenes = [functools.partial(open_scene, path) for path in find_scenes("train")]
        model.fit(training_dataset(scenes, bands=model.band_names), steps_per_epoch=100, epochs=60)
    """
    store = _Store(scenes, bands, weights, patch, memory)

    def patches() -> Iterator[Patch]:
        rng = np.random.default_rng(seed)
        choose = functools.partial(choose_frames, method=frames, count=count, max_cloud=max_cloud, rng=rng)
        while True:
            for number in rng.permutation(len(scenes)):
                scene = store[number]
                for _ in range(_PER_VISIT):
                    cut = random_patch(scene, patch, choose, rng)
                    yield turn(cut, int(rng.integers(8))) if augment else cut

    dataset = store.dataset(patches, patch).shuffle(_SHUFFLED, seed=seed)
    return _batches(dataset, batch)


def validation_dataset(
    scenes: Sequence[Source],
    bands: Sequence[str] | None = None,
    patch: int = 32,
    batch: int = 8,
    frames: Method = "all",
    count: int = 20,
    max_cloud: float = 0.25,
    weights: Weights = "uniform",
    memory: int = 2 << 30,
) -> tf.data.Dataset:
    """Batches that cover every scene once, as `training_dataset` gives them but neither random nor endless.

    Label pixels that two patches share at the edge of a scene weigh 0 in one of them, so each counts once.

    Args:
        scenes: as for `training_dataset`.
        bands: as for `training_dataset`.
        patch: height and width of a patch, in pixels of the images.
        batch: patches in a batch; the last may hold fewer.
        frames: as for `training_dataset`; the default takes every frame with at most `max_cloud` of cloud.
        count: how many frames.
        max_cloud: the cloudy fraction allowed.
        weights: as for `training_dataset`.
        memory: as for `training_dataset`.

    Returns:
        A dataset as `training_dataset` returns, finite and of known length.

    Raises:
        SpinetError: if there are no scenes, or one cannot be used; all are opened at once.

    Example:
        model.evaluate(validation_dataset([open_scene("eopatch-902")], bands=model.band_names))
    """
    store = _Store(scenes, bands, weights, patch, memory)
    rng = np.random.default_rng(0)
    choose = functools.partial(choose_frames, method=frames, count=count, max_cloud=max_cloud, rng=rng)

    def patches() -> Iterator[Patch]:
        for number in range(len(scenes)):
            scene = store[number]
            for row, column, weight in grid_windows(scene, patch):
                cut = cut_patch(scene, row, column, patch, choose)
                if cut is not None:
                    yield cut._replace(weight=weight)

    # Keras warns about data that ends without having said when.
    count = sum(len(grid_windows(store[number], patch)) for number in range(len(scenes)))
    return _batches(store.dataset(patches, patch).apply(tf.data.experimental.assert_cardinality(count)), batch)


def ragged_batch(series: Sequence[np.ndarray]) -> tf.RaggedTensor:
    """Batch time series of different lengths.

    Args:
        series: arrays (time, height, width, bands), alike but for their time.

    Returns:
        A RaggedTensor (batch, None, height, width, bands).

    Raises:
        SpinetError: if there are none, or they differ in more than time.

    Example:
        ragged_batch([np.zeros((3, 32, 32, 12)), np.zeros((7, 32, 32, 12))]).shape  # (2, None, 32, 32, 12)
    """
    shapes = [np.shape(images) for images in series]
    if not shapes or len(shapes[0]) != 4 or any(shape[1:] != shapes[0][1:] for shape in shapes):
        raise SpinetError(
            "Expected at least one array (time, height, width, bands), all alike but for their time. "
            f"Received shapes: {shapes}"
        )
    return tf.RaggedTensor.from_row_lengths(np.concatenate(series), [shape[0] for shape in shapes])


def ragged_to_inputs(ragged: tf.RaggedTensor) -> dict[str, tf.Tensor]:
    """Turn a batch of time series of different lengths into the model's input.

    Args:
        ragged: (batch, time, height, width, bands), ragged in time: from `ragged_batch`, from
            `tf.data.Dataset.ragged_batch` or built by hand. Floats are reflectance; integers are digital numbers, which
            are divided by 10000.

    Returns:
        {"images": float32 (batch, longest time, height, width, bands), 0 in padding frames,
        "frame_mask": bool (batch, longest time), true for real frames}.

    Raises:
        SpinetError: if the tensor is not ragged or has other than 5 dimensions, or height or width differ.
            Inside a graph, differing sizes raise `tf.errors.InvalidArgumentError`.

    Example:
        inputs = ragged_to_inputs(ragged_batch(series))
        model.fit(inputs, labels)
    """
    if not isinstance(ragged, tf.RaggedTensor) or ragged.shape.rank != 5:
        raise SpinetError(
            "Expected a RaggedTensor (batch, time, height, width, bands). "
            f"Received: {type(ragged).__name__} of shape {getattr(ragged, 'shape', None)}"
        )
    # A tensor built by hand may be ragged in height and width too, by its type if not in fact.
    for lengths in ragged.nested_row_lengths()[1:]:
        _require_equal(lengths)
    lengths = ragged.row_lengths()
    images = tf.cast(ragged.to_tensor(), tf.float32)
    if ragged.dtype.is_integer:
        images /= QUANTIFICATION
    images.set_shape((None, None, None, None, ragged.flat_values.shape[-1]))
    return {"images": images, "frame_mask": tf.sequence_mask(lengths, tf.shape(images)[1])}


def _require_equal(lengths: tf.Tensor) -> None:
    """Raise an error if frames differ in size: at once in eager mode, when the graph runs otherwise."""
    try:
        tf.debugging.assert_equal(lengths, tf.reduce_max(lengths), "Frames differ in height or width")
    except tf.errors.InvalidArgumentError as error:
        sizes = ", ".join(map(str, np.unique(lengths)))
        raise SpinetError(
            f"Expected frames of one height and width, ragged in time only. Received rows or columns: {sizes}. "
            "Crop them, or batch equal sizes together."
        ) from error


class _Store:
    """Labelled scenes by number: the first ones kept in memory, up to a budget, the others opened for each use."""

    def __init__(
        self, scenes: Sequence[Source], bands: Sequence[str] | None, weights: Weights, patch: int, memory: int
    ):
        if not scenes:
            raise SpinetError("Expected at least one scene. Received none.")
        self._scenes, self._bands, self._weights, self._patch = scenes, bands, weights, patch
        self._kept: dict[int, xr.Dataset] = {}
        self._left = memory
        first = self[0]
        self._bands = [str(name) for name in first["band"].values]
        self._scale = label_scale(first)
        for number, scene in enumerate(scenes):
            if isinstance(scene, xr.Dataset):
                self[number]

    def __getitem__(self, number: int) -> xr.Dataset:
        if number in self._kept:
            return self._kept[number]
        source = self._scenes[number]
        scene = labelled(source if isinstance(source, xr.Dataset) else source(), self._bands, self._weights)
        require_size(scene, self._patch)
        if number and label_scale(scene) != self._scale:
            raise SpinetError(
                f"Expected labels {self._scale} times finer than images in every scene, as in the first. "
                f"{scene.attrs.get('name', 'A scene')}: {label_scale(scene)} times"
            )
        if scene.nbytes <= self._left:
            self._left -= scene.nbytes
            self._kept[number] = scene = scene.compute()
        return scene

    def dataset(self, patches: Callable[[], Iterator[Patch]], patch: int) -> tf.data.Dataset:
        fine = (self._scale * patch, self._scale * patch, 1)
        signature = Patch(
            tf.TensorSpec((None, patch, patch, len(self._bands or ())), tf.uint16),
            tf.TensorSpec(fine, tf.uint8),
            tf.TensorSpec(fine, tf.float32),
        )
        # from_generator takes plain tuples.
        return tf.data.Dataset.from_generator(
            lambda: map(tuple, _in_one_thread(patches())), output_signature=tuple(signature)
        )


def _in_one_thread(patches: Iterator[Patch]) -> Iterator[Patch]:
    """Run a generator in a thread of its own: opening a scene in those of TensorFlow crashes inside PROJ."""
    with ThreadPoolExecutor(1) as thread:
        while (patch := thread.submit(next, patches, None).result()) is not None:
            yield patch


def _batches(dataset: tf.data.Dataset, batch: int) -> tf.data.Dataset:
    """Pad patches in time to the longest of their batch, and make tensors of the model's types."""

    def counted(images, label, weight):
        return images, tf.shape(images)[0], label, weight

    def finished(images, count, label, weight):
        inputs = {
            "images": tf.cast(images, tf.float32) / QUANTIFICATION,
            "frame_mask": tf.sequence_mask(count, tf.shape(images)[1]),
        }
        return inputs, tf.cast(label, tf.float32), weight

    return dataset.map(counted).padded_batch(batch).map(finished).prefetch(2)
