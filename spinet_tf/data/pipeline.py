"""Batches for `model.fit` through tf.data: patches of ragged length, padded and masked."""

import contextlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from spinet_tf.bands import QUANTIFICATION
from spinet_tf.data.batches import Batches, require_range
from spinet_tf.data.patches import Weights
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.scene_batches import SceneBatches, SceneGrid, Source
from spinet_tf.data.shard_batches import GridBatches
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import Method


def batch_dataset(
    batches: Batches, start: int = 0, stop: int | None = None, parallel: int | None = None
) -> tf.data.Dataset:
    """Batches by number as a dataset, in order, prepared ahead in threads of their own.

    Args:
        batches: `ShardBatches`, `SceneBatches`, `GridBatches`, or a worker's share of them.
        start: number of the first batch: the steps already trained, where a run is resumed.
        stop: number of the batch to stop before; None for all, which may be without end.
        parallel: how many batches are computed at once; None for `batches.parallel`. In memory are those and
            `batches.ahead` more.

    Returns:
        A dataset of ({"images" float32 (batch, time, height, width, bands) reflectance, "frame_mask" bool (batch,
        time)}, label float32 (batch, scale * height, scale * width, 1), weight float32 of the same shape). Padding
        frames are 0. Its length is known, or known to be infinite.

    Raises:
        SpinetError: if `start` and `stop` are out of order. What goes wrong later surfaces as a TensorFlow error with
            the same message, see `spinet_errors`.

    Example:
        batches = ShardBatches(Shards("prepared").training, Sampling("clearest"), batch=8)
        model.fit(batch_dataset(batches), epochs=60, steps_per_epoch=batches.steps, shuffle=False)
    """
    stop = require_range(batches, start, stop)
    types = (tf.uint16, tf.int32, tf.uint8, tf.float32)
    shapes = ((None, None, *batches.shape.images), (None,), *2 * [(None, *batches.shape.label)])

    # Outside of what tf.data traces, so that AutoGraph does not rewrite it.
    def numbered(step):
        return batches[int(step)]

    def compute(step):
        computed = tf.numpy_function(numbered, [step], types, stateful=False)
        return tuple(tf.ensure_shape(tensor, shape) for tensor, shape in zip(computed, shapes, strict=True))

    def finished(images, num_frames, label, weight):
        inputs = {
            "images": tf.cast(images, tf.float32) / QUANTIFICATION,
            "frame_mask": tf.sequence_mask(num_frames, tf.shape(images)[1]),
        }
        return inputs, tf.cast(label, tf.float32), weight

    numbers = tf.data.Dataset.counter(start) if stop is None else tf.data.Dataset.range(start, stop)
    computed = numbers.map(compute, num_parallel_calls=parallel or batches.parallel, deterministic=True).prefetch(
        batches.ahead
    )
    return computed.map(finished).prefetch(1)


@contextlib.contextmanager
def spinet_errors() -> Iterator[None]:
    """Raise the `SpinetError` that went wrong inside a dataset, in place of TensorFlow's error around it.

    Example:
        with spinet_errors():
            model.fit(batch_dataset(batches), steps_per_epoch=batches.steps, shuffle=False)
    """
    try:
        yield
    except tf.errors.OpError as error:
        # TensorFlow's message has Python's traceback in it, of which this is the end.
        name = re.escape(f"{SpinetError.__module__}.{SpinetError.__qualname__}")
        found = re.findall(rf"^{name}: (.*?)$\s*^$", error.message, re.DOTALL | re.MULTILINE)
        if not found:
            raise
        raise SpinetError(found[-1]) from error


def training_dataset(
    scenes: Sequence[Source],
    bands: Sequence[str] | None = None,
    patch: int = 32,
    batch: int = 8,
    frames: Method = "random",
    count: int | tuple[int, int] = 20,
    max_cloud: float = 0.25,
    weights: Weights = "uniform",
    augment: bool = True,
    seed: int = 0,
    memory: int = 2 << 30,
) -> tf.data.Dataset:
    """Batches of random patches without end, from all scenes in turn.

    Each patch has a random place where ground was seen and some label is known, frames chosen by how much clear ground
    they show inside the patch, and one of the 8 flips and rotations. A seed gives the same patches every time.
    `batch_dataset` of `SceneBatches` is the same with more to choose, and starts at any step.

    Scenes are kept in memory until together they fill `memory` bytes; further ones are opened anew each time their turn
    comes, eight patches at a time. Besides the scenes, up to 256 patches to be mixed and 128 in batches are in memory;
    one of 20 frames of 32x32 pixels and 12 bands takes 0.5 MB.

    Args:
        scenes: labelled scenes, or functions without arguments that open one. All have labels equally much finer than
            their images.
        bands: names of the bands in the model's order; None for those of the first scene.
        patch: height and width of a patch, in pixels of the images.
        batch: patches in a batch.
        frames: which frames of a patch to take, see `choose_frames`; and `count` and `max_cloud`.
        count: how many frames; a pair (low, high) is a range that each batch draws from.
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
        model.fit(training_dataset(scenes, bands=model.band_names), steps_per_epoch=100, epochs=60, shuffle=False)
    """
    sampling = Sampling(frames, count, max_cloud, augment)
    return batch_dataset(SceneBatches(scenes, bands, patch, sampling, batch, weights=weights, seed=seed, memory=memory))


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
    grid = SceneGrid(scenes, bands, patch, weights, memory)
    return batch_dataset(GridBatches(grid, Sampling(frames, count, max_cloud), batch, grid.groups))


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
