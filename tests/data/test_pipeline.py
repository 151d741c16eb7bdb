"""Batches that `model.fit` takes: padded, masked, turned together, the same for a seed."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from spinet_tf import SPInet
from spinet_tf.data.pipeline import (
    batch_dataset,
    ragged_batch,
    ragged_to_inputs,
    spinet_errors,
    training_dataset,
    validation_dataset,
)
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.scene import open_scene
from spinet_tf.data.shard_batches import GridBatches, ShardBatches
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.errors import SpinetError
from tests.data.made_patches import MadePatches
from tests.labelled import BANDS, labelled_scene, position_scene


def take(dataset, count):
    return [tf.nest.map_structure(lambda tensor: tensor.numpy(), element) for element in dataset.take(count)]


def made_batches(kind=ShardBatches, **options):
    patches = MadePatches(np.random.default_rng(0).integers(3, 12, 22))
    return kind(patches, Sampling("random", count=(3, 6), max_cloud=1, jitter=0.1), batch=4, **options)


@pytest.mark.parametrize("parallel", [1, 5])
def test_a_dataset_gives_the_batches_in_order(parallel):
    batches = made_batches()
    dataset = batch_dataset(batches, start=3, parallel=parallel)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    for step, (inputs, label, weight) in enumerate(take(dataset, 12), start=3):
        batch = batches[step]
        np.testing.assert_array_equal(inputs["images"], batch.images.astype("float32") / np.float32(10000))
        np.testing.assert_array_equal(inputs["frame_mask"].sum(axis=1), batch.num_frames)
        np.testing.assert_array_equal(np.sort(inputs["frame_mask"])[:, ::-1], inputs["frame_mask"])
        np.testing.assert_array_equal(label, batch.label)
        np.testing.assert_array_equal(weight, batch.weight)


def test_a_dataset_begins_and_ends_where_it_is_told():
    batches = made_batches(GridBatches)
    assert batch_dataset(batches).cardinality() == len(take(batch_dataset(batches), -1)) == 6
    assert [len(label) for _, label, _ in take(batch_dataset(batches, 4), -1)] == [4, 2]
    found = take(batch_dataset(made_batches(), 7, 9), -1)
    np.testing.assert_array_equal(found[1][1], made_batches()[8].label)
    assert len(found) == 2
    assert not take(batch_dataset(made_batches(), 3, 3), -1)


@pytest.mark.parametrize(
    ("batches", "start", "stop", "message"),
    [
        (made_batches(), -1, None, "0 <= start <= stop. Received: start -1 and stop None"),
        (made_batches(), 3, 2, "start 3 and stop 2"),
        (made_batches(GridBatches), 0, 7, "0 <= start <= stop <= 6"),
        (made_batches(GridBatches), 7, None, "start 7 and stop 6"),
    ],
)
def test_ranges_that_there_are_not(batches, start, stop, message):
    with pytest.raises(SpinetError, match=message):
        batch_dataset(batches, start, stop)


def small_model():
    """The mean of the frames twice as fine, times one number."""
    inputs = {
        "images": keras.Input((None, 4, 4, 3), name="images"),
        "frame_mask": keras.Input((None,), name="frame_mask"),
    }
    mean = keras.ops.mean(inputs["images"], axis=1)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(keras.layers.UpSampling2D(2)(mean)))
    model.compile("sgd", "mse", jit_compile=False)
    return model


def test_what_goes_wrong_inside_comes_out_of_fit():
    batches = made_batches()
    read = batches._patches.read

    def broken(number, frames):
        if number == 13:
            raise SpinetError(
                "a.tfrecord ends before byte 99: it was cut off.\nRun training.prepare again."
            ) from OSError()
        return read(number, frames)

    batches._patches.read = broken
    with pytest.raises(SpinetError) as raised, spinet_errors():
        small_model().fit(batch_dataset(batches), steps_per_epoch=20, shuffle=False, verbose=0)
    assert str(raised.value) == "a.tfrecord ends before byte 99: it was cut off.\nRun training.prepare again."


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError, match="another matter"), spinet_errors():
        raise tf.errors.InvalidArgumentError(None, None, "another matter")
    with pytest.raises(SpinetError, match="the same"), spinet_errors():
        raise SpinetError("the same")


def test_shapes_and_types_are_known_before_training():
    dataset = training_dataset([labelled_scene()], patch=6, batch=3)
    inputs, label, weight = dataset.element_spec
    assert inputs["images"].shape.as_list() == [None, None, 6, 6, 3]
    assert inputs["frame_mask"].shape.as_list() == [None, None]
    assert label.shape.as_list() == weight.shape.as_list() == [None, 24, 24, 1]
    assert [spec.dtype for spec in tf.nest.flatten(dataset.element_spec)] == [tf.bool, *[tf.float32] * 3]
    assert dataset.cardinality() in (tf.data.INFINITE_CARDINALITY, tf.data.UNKNOWN_CARDINALITY)


def test_patches_have_their_own_frames_and_padding_is_zero():
    # Clear frames: 0, 3 and, in the right half only, 2.
    for inputs, _, _ in take(training_dataset([labelled_scene()], patch=5, batch=8, frames="all"), 4):
        images, mask = inputs["images"], inputs["frame_mask"]
        assert set(mask.sum(axis=1)) <= {2, 3}
        assert mask.shape[1] == mask.sum(axis=1).max()
        np.testing.assert_array_equal(mask, np.sort(mask)[:, ::-1])
        assert not images[~mask].any()
        assert images[mask].all()
        assert images.max() < 1


def test_images_label_and_weight_show_one_place_whatever_the_turn():
    """The place is read off the images; label and weight must be those of that place."""
    scene = position_scene()
    labels = scene["label"].values
    seen = set()
    for inputs, label, weight in take(training_dataset([scene], BANDS, patch=4, batch=8, seed=3), 10):
        numbers = np.round(inputs["images"][:, 0, :, :, 0] * 10000).astype(int)
        numbers -= numbers % 100
        x, y = numbers // 1000, numbers % 1000 // 100
        for sample in range(8):
            # In either direction the fine pixels go on as the images' do.
            step = {}
            for axis, place in (("y", y[sample]), ("x", x[sample])):
                by_row, by_column = place[1, 0] - place[0, 0], place[0, 1] - place[0, 0]
                fine_row, fine_column = np.mgrid[:16, :16]
                corner = 4 * place[0, 0] + (0 if by_row + by_column > 0 else 3)
                step[axis] = corner + by_row * fine_row + by_column * fine_column
            np.testing.assert_array_equal(label[sample, ..., 0], labels[step["y"], step["x"]])
            seen.add((y[sample, 0, 0] < y[sample, -1, -1], x[sample, 0, 0] < x[sample, -1, -1]))
            seen.add("transposed" if y[sample, 0, 0] == y[sample, 1, 0] else "upright")
        assert np.all(weight == 1)
    assert len(seen) == 6


def test_without_augmentation_nothing_is_turned():
    for inputs, _, _ in take(training_dataset([position_scene()], patch=4, augment=False), 3):
        numbers = np.round(inputs["images"][:, 0, :, :, 0] * 10000)
        np.testing.assert_array_equal(np.diff(numbers, axis=1), 100)
        np.testing.assert_array_equal(np.diff(numbers, axis=2), 1000)


def test_a_seed_repeats_and_another_differs():
    scenes = [labelled_scene(seed=1), labelled_scene(14, 9, seed=2)]
    first, again, other = (
        take(training_dataset(scenes, patch=5, batch=4, count=2, seed=seed), 5) for seed in (1, 1, 2)
    )
    for left, right in zip(tf.nest.flatten(first), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(left, right)
    assert any(not np.array_equal(left[1], right[1]) for left, right in zip(first, other, strict=True))


def test_all_scenes_are_drawn_from():
    dark, bright = labelled_scene(), labelled_scene()
    dark["bands"][:], bright["bands"][:] = 1000, 4000
    batches = take(training_dataset([dark, bright], patch=5, batch=8), 6)
    means = np.concatenate([inputs["images"][:, 0].mean(axis=(1, 2, 3)) for inputs, _, _ in batches])
    assert 12 < np.sum(means > 0.3) < 36


@pytest.mark.parametrize("memory", [0, 2 << 30])
def test_scenes_are_opened_again_only_beyond_the_memory_allowed(memory):
    opened = []

    def source(seed):
        opened.append(seed)
        return labelled_scene(seed=seed)

    dataset = training_dataset([functools.partial(source, 0), functools.partial(source, 1)], patch=5, memory=memory)
    batches = take(dataset, 10)
    expected = take(training_dataset([labelled_scene(seed=0), labelled_scene(seed=1)], patch=5), 10)
    np.testing.assert_array_equal(batches[-1][1], expected[-1][1])
    assert sorted(opened) == [0, 1] if memory else len(opened) > 4


def test_validation_covers_each_scene_once():
    scenes = [labelled_scene(12, 10, seed=1), labelled_scene(9, 11, seed=2)]
    dataset = validation_dataset(scenes, patch=5, batch=4)
    assert dataset.cardinality() == 3
    first, again = take(dataset, -1), take(dataset, -1)
    assert [len(label) for _, label, _ in first] == [4, 4, 4]
    assert sum(weight.sum() for _, _, weight in first) == sum((scene["label"].values != 255).sum() for scene in scenes)
    positive = sum(np.sum(label * weight) for _, label, weight in first)
    assert positive == sum((scene["label"].values == 1).sum() for scene in scenes)
    for left, right in zip(tf.nest.flatten(first), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(left, right)


def test_eopatches_open_while_training_runs(tmp_path):
    """In TensorFlow's own threads PROJ crashes the whole process."""
    paths = [simulate_eopatch(tmp_path / f"eopatch-{number}", seed=number, size=12, dates=5) for number in range(3)]
    dataset = training_dataset([functools.partial(open_scene, path) for path in paths], patch=8, batch=2, memory=0)
    for inputs, label, _ in take(dataset, 30):
        assert inputs["images"].shape[2:] == (8, 8, 12)
        assert label.shape[1:] == (32, 32, 1)


@pytest.mark.parametrize(
    ("scenes", "options", "message"),
    [
        ([], {}, "at least one scene"),
        ([labelled_scene().drop_vars("label")], {}, "no label"),
        ([labelled_scene(), labelled_scene(scale=2)], {}, "Expected labels 4 times finer.*made: 2 times"),
        ([labelled_scene()], {"bands": ("B04", "B12")}, "lacks B12"),
        ([labelled_scene(), labelled_scene(bands=("B02",))], {}, "lacks B04, B08"),
        ([labelled_scene()], {"patch": 11}, "at most 10 pixels"),
    ],
)
@pytest.mark.parametrize("dataset", [training_dataset, validation_dataset])
def test_scenes_that_cannot_be_used(dataset, scenes, options, message):
    with pytest.raises(SpinetError, match=message):
        dataset(scenes, **{"patch": 5, **options})


def test_what_is_wrong_with_a_scene_opened_later_is_said():
    def broken():
        raise SpinetError("the file is truncated")

    dataset = training_dataset([labelled_scene, broken], patch=5, memory=0)
    with pytest.raises(tf.errors.OpError, match="the file is truncated"):
        take(dataset, 30)


def series(lengths, height=4, width=5, dtype="float32"):
    rng = np.random.default_rng(0)
    return [(9000 * rng.random((length, height, width, 3))).astype(dtype) for length in lengths]


def assert_same_series(inputs, expected):
    images, mask = inputs["images"].numpy(), inputs["frame_mask"].numpy()
    assert images.dtype == np.float32
    assert images.shape[1] == mask.shape[1] == max(map(len, expected))
    for sample, real, frames in zip(images, mask, expected, strict=True):
        np.testing.assert_array_equal(real, np.arange(len(real)) < len(frames))
        np.testing.assert_array_equal(sample[real], frames)
        assert not sample[~real].any()


def test_ragged_batch_becomes_the_models_input():
    frames = series([3, 1, 4])
    ragged = ragged_batch(frames)
    assert ragged.shape.as_list() == [3, None, 4, 5, 3]
    assert_same_series(ragged_to_inputs(ragged), frames)


@pytest.mark.parametrize(
    "build",
    [
        lambda frames: tf.ragged.stack([tf.constant(images) for images in frames]),
        lambda frames: tf.ragged.constant([images.tolist() for images in frames], ragged_rank=1),
        lambda frames: tf.ragged.constant([images.tolist() for images in frames], ragged_rank=3, dtype=tf.float32),
        lambda frames: tf.RaggedTensor.from_row_splits(np.concatenate(frames), [0, 3, 4, 8]),
    ],
)
def test_ragged_tensors_built_by_hand(build):
    frames = series([3, 1, 4])
    assert_same_series(ragged_to_inputs(build(frames)), frames)


@pytest.mark.parametrize("shape", [(None, 4, 5, 3), (None, None, None, 3)])
def test_ragged_batches_of_a_dataset(shape):
    frames = series([3, 1, 4, 2])
    dataset = tf.data.Dataset.from_generator(lambda: iter(frames), output_signature=tf.TensorSpec(shape))
    first, second = dataset.ragged_batch(2).map(ragged_to_inputs)
    assert_same_series(first, frames[:2])
    assert_same_series(second, frames[2:])


def test_digital_numbers_become_reflectance():
    frames = series([2, 3], dtype="uint16")
    inputs = ragged_to_inputs(ragged_batch(frames))
    assert_same_series(inputs, [images.astype("float32") / np.float32(10000) for images in frames])


@pytest.mark.slow
def test_the_network_trains_on_ragged_data_in_two_lines():
    model = SPInet(bands=3, filters=8, tefa_blocks=1, bottleneck=2)
    frames = [images / 9000 for images in series([3, 1, 4])]
    labels = np.zeros((3, 16, 20, 1), "float32")
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)

    inputs = ragged_to_inputs(ragged_batch(frames))
    history = model.fit(inputs, labels, epochs=3, verbose=0)

    assert history.history["loss"][-1] < history.history["loss"][0]


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(SpinetError, match="alike but for their time"):
        ragged_batch([*series([2]), *series([2], height=6)])
    mixed = tf.ragged.stack([tf.constant(images) for images in (*series([2]), *series([2], height=6))])
    with pytest.raises(SpinetError, match=r"ragged in time only\. Received rows or columns: 4, 6"):
        ragged_to_inputs(mixed)
    frames = [*series([3]), *series([1], width=7)]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(frames), output_signature=tf.TensorSpec((None, None, None, 3))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in height or width"):
        list(dataset.ragged_batch(2).map(ragged_to_inputs))


def test_what_is_not_a_ragged_batch():
    with pytest.raises(SpinetError, match=r"Received: EagerTensor of shape \(1, 2, 4, 5, 3\)"):
        ragged_to_inputs(tf.zeros((1, 2, 4, 5, 3)))
    with pytest.raises(SpinetError, match=r"Expected a RaggedTensor \(batch"):
        ragged_to_inputs(tf.ragged.constant([[1.0], [2.0, 3.0]]))
    with pytest.raises(SpinetError, match="Received shapes: \\[\\]"):
        ragged_batch([])
