"""Batches on backends without tf.data: the numbers of the tf.data path, without TensorFlow."""

import functools
import hashlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from spinet_tf.data.batches import require_step
from spinet_tf.data.pipeline import batch_dataset
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.scene import open_scene
from spinet_tf.data.scene_batches import SceneBatches
from spinet_tf.data.sequence import BatchSequence
from spinet_tf.data.shard_batches import GridBatches, ShardBatches
from spinet_tf.data.simulate import synthesize
from spinet_tf.errors import SpinetError
from tests.data.made_patches import MadePatches


def made(kind=ShardBatches, sampling=None, longest=30):
    patches = MadePatches(np.random.default_rng(0).integers(3, longest + 1, 22))
    return kind(patches, sampling or Sampling("all", max_cloud=1, jitter=0.1), batch=4)


@pytest.mark.parametrize("kind", [ShardBatches, GridBatches])
@pytest.mark.parametrize("parallel", [None, 4])
def test_elements_are_those_of_the_dataset_but_for_padding(kind, parallel):
    sequence = BatchSequence(made(kind), start=2, stop=6, parallel=parallel)
    assert sequence.num_batches == 4
    found = [*sequence]
    assert len(found) == 4
    for (inputs, label, weight), expected in zip(found, batch_dataset(made(kind), 2, 6), strict=True):
        time = expected[0]["images"].shape[1]
        assert inputs["images"].dtype == label.dtype == weight.dtype == np.float32
        np.testing.assert_array_equal(inputs["images"][:, :time], expected[0]["images"])
        assert not inputs["images"][:, time:].any()
        np.testing.assert_array_equal(inputs["frame_mask"][:, :time], expected[0]["frame_mask"])
        assert not inputs["frame_mask"][:, time:].any()
        assert inputs["frame_mask"].shape == inputs["images"].shape[:2]
        np.testing.assert_array_equal(label, expected[1])
        np.testing.assert_array_equal(weight, expected[2])


def test_lengths_are_few():
    lengths = {inputs["images"].shape[1] for inputs, _, _ in BatchSequence(made(GridBatches))}
    assert lengths <= {4, 8, 12, 16, 20, 24, 32}
    long = made(GridBatches, longest=300)
    for (inputs, _, _), batch in zip(BatchSequence(long), long, strict=True):
        assert batch.images.shape[1] <= inputs["images"].shape[1]
        assert inputs["images"].shape[1] in (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 320)


def test_nothing_is_padded_where_every_batch_has_the_number_asked_for():
    sequence = BatchSequence(made(sampling=Sampling("clearest", 3)))
    assert sequence[0][0]["images"].shape[1] == 3
    assert sequence[0][0]["frame_mask"].all()


def test_batches_come_by_number_whatever_was_asked_before():
    sequence, batches = BatchSequence(made(), start=5), made()
    assert sequence.num_batches is None
    for index in (0, 1, 2, 0, 1, 9, 4, 5):
        np.testing.assert_array_equal(sequence[index][1], batches[5 + index].label)
        # None is kept that is not to come.
        assert sorted(sequence._computed) == [5 + index + n for n in (1, 2)]


def test_only_a_few_batches_are_computed_ahead():
    batches, asked = made(), []
    compute = batches.__class__.__getitem__

    class Watched(ShardBatches):
        def __getitem__(self, step):
            asked.append(step)
            return compute(self, step)

    batches.__class__ = Watched
    sequence = BatchSequence(batches)
    for index in range(6):
        sequence[index]
    sequence._threads.shutdown()
    assert sorted(asked) == list(range(6 + batches.ahead))


def test_errors_come_out_as_they_are():
    batches = made()

    def broken(number, frames):
        raise SpinetError("the shard is cut off")

    batches._patches.read = broken
    with pytest.raises(SpinetError, match="the shard is cut off"):
        BatchSequence(batches)[0]
    with pytest.raises(SpinetError, match="start 3 and stop 2"):
        BatchSequence(batches, 3, 2)
    with pytest.raises(IndexError):
        require_step(4, 4)


# Everything that training from scenes needs, in a process in which TensorFlow cannot be imported.
PROGRAM = """
    import hashlib, sys

    class NoTensorFlow:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "tensorflow":
                raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    sys.meta_path.insert(0, NoTensorFlow())
    import functools
    import keras
    import spinet_tf
    from spinet_tf.data import BatchSequence, Sampling, SceneBatches, find_scenes, open_scene

    scenes = [functools.partial(open_scene, path) for path in find_scenes(sys.argv[1])]
    batches = SceneBatches(scenes, patch=8, sampling=Sampling("random", 4, jitter=0.1), batch=2, seed=3)
    model = spinet_tf.SPInet(filters=8, tefa_blocks=0, bottleneck=2, fusion="plain")
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))

    class Watched(BatchSequence):
        asked = []

        def __getitem__(self, index):
            self.asked.append(index)
            return super().__getitem__(index)

    history = model.fit(Watched(batches, start=1), steps_per_epoch=2, shuffle=False, verbose=0)
    # Keras looks at the first batch before it trains.
    assert Watched.asked in ([0, 1], [0, 0, 1]), Watched.asked
    assert not [name for name in sys.modules if name.startswith("tensorflow")]
    print(keras.backend.backend(), *history.history["loss"])
    print(hashlib.sha256(b"".join(array.tobytes() for array in batches[1])).hexdigest())
"""


@pytest.mark.slow
def test_jax_trains_from_scenes_without_tensorflow_on_the_same_batches(tmp_path):
    paths = synthesize(tmp_path / "scenes", 2, size=12, dates=6)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), tmp_path / "scenes"],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    backend, loss, digest = run.stdout.split()
    assert backend == "jax"
    assert 0.1 < float(loss) < 3
    scenes = [functools.partial(open_scene, path) for path in paths]
    batches = SceneBatches(scenes, patch=8, sampling=Sampling("random", 4, jitter=0.1), batch=2, seed=3)
    assert digest == hashlib.sha256(b"".join(array.tobytes() for array in batches[1])).hexdigest()
