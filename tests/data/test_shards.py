"""Shards are TFRecords that TensorFlow reads, and give single frames of any patch without it."""

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from spinet_tf.data.shard_writer import StoredPatch, encode_example, write_record, write_shard
from spinet_tf.data.shards import ShardPatches, Shards
from spinet_tf.errors import SpinetError

SIZE, BANDS, SCALE = 5, 3, 4

# As the documentation of spinet_tf.data.shards has it.
FEATURES = {
    "images": tf.io.FixedLenFeature((), tf.string),
    "shape": tf.io.FixedLenFeature((4,), tf.int64),
    "clear": tf.io.FixedLenSequenceFeature((), tf.float32, allow_missing=True),
    "date": tf.io.FixedLenSequenceFeature((), tf.int64, allow_missing=True),
    "label": tf.io.FixedLenFeature((), tf.string),
    "weight": tf.io.FixedLenFeature((), tf.string),
    "scene": tf.io.FixedLenFeature((), tf.string),
    "row": tf.io.FixedLenFeature((), tf.int64),
    "column": tf.io.FixedLenFeature((), tf.int64),
}


def parse(path):
    """What plain tf.data reads, checksums compared."""
    for example in tf.data.TFRecordDataset(str(path)).map(lambda record: tf.io.parse_single_example(record, FEATURES)):
        yield {
            **{key: example[key].numpy() for key in FEATURES},
            "images": tf.reshape(tf.io.decode_raw(example["images"], tf.uint16), example["shape"]).numpy(),
            "label": tf.io.decode_raw(example["label"], tf.uint8).numpy(),
            "weight": tf.io.decode_raw(example["weight"], tf.float32).numpy(),
        }


def stored(rng, frames, scene="eopatch-153"):
    fine = (SCALE * SIZE, SCALE * SIZE)
    label = rng.choice(np.array([0, 1, 255], "uint8"), fine)
    return StoredPatch(
        images=rng.integers(0, 65536, (frames, SIZE, SIZE, BANDS), "uint16"),
        clear=rng.integers(1, SIZE * SIZE + 1, frames),
        dates=rng.integers(-(2**40), 2**40, frames),
        label=label,
        weight=np.where(label == 255, 0, rng.random(fine)).astype("float32"),
        scene=scene,
        row=int(rng.integers(400)),
        column=int(rng.integers(400)),
    )


@pytest.fixture
def patches(rng):
    """Patches of two shards; names of different lengths put the images at odd places."""
    return [[stored(rng, frames, scene="x" * frames) for frames in counts] for counts in ((3, 1, 7), (2, 200))]


@pytest.fixture
def files(tmp_path, patches):
    paths = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    for path, content in zip(paths, patches, strict=True):
        write_shard(path, path.with_suffix(".npz"), content)
    return paths


@pytest.fixture
def folder(tmp_path, files, patches):
    """A prepared folder, by the least that `Shards` asks for."""
    (tmp_path / "out" / "shards").mkdir(parents=True)
    scenes = []
    for path, role in zip(files, ("training", "validation"), strict=True):
        moved = [file.rename(tmp_path / "out" / "shards" / file.name) for file in (path, path.with_suffix(".npz"))]
        scenes.append({"name": path.stem, "role": role, "files": {f.name: {"bytes": f.stat().st_size} for f in moved}})
    manifest = {
        **{"format": "spinet_tf shards", "version": 1, "weights": "ai4eo", "scenes": scenes},
        **{"bands": ["B02", "B04", "B08"], "scale": SCALE, "patch": SIZE, "mean": [0.1] * 3, "std": [0.2] * 3},
    }
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "out"


def open_patches(files, weighted=True):
    return ShardPatches([file.stem for file in files], files, (SIZE, SIZE, BANDS), SCALE, weighted)


def assert_same(patch, expected, frames):
    np.testing.assert_array_equal(patch.images, expected.images[frames])
    np.testing.assert_array_equal(patch.label[..., 0], expected.label == 1)
    np.testing.assert_array_equal(patch.weight[..., 0], expected.weight)
    assert [array.dtype for array in patch] == ["uint16", "uint8", "float32"]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 70000])
def test_examples_are_those_of_tensorflow(length, rng):
    """Lengths on both sides of where a byte more is needed to say them."""
    raw = rng.bytes(length)
    integers = np.array([0, 1, -1, 127, 128, 2**63 - 1, -(2**63)])
    floats = rng.normal(size=length % 300)
    message, offsets = encode_example({"raw": raw, "n": integers, "x": floats, "none": integers[:0], "é": b"last"})
    feature = tf.train.Example.FromString(message).features.feature
    assert set(feature) == {"raw", "n", "x", "none", "é"}
    assert feature["raw"].bytes_list.value == [raw]
    assert feature["n"].int64_list.value == integers.tolist()
    np.testing.assert_array_equal(feature["x"].float_list.value, floats.astype("float32"))
    assert feature["none"].WhichOneof("kind") == "int64_list"
    assert list(feature["none"].int64_list.value) == []
    assert message[offsets["raw"] : offsets["raw"] + length] == raw
    assert message[offsets["é"] :] == b"last"
    assert set(offsets) == {"raw", "é"}


def test_records_are_those_of_tensorflow(tmp_path, rng):
    records = [rng.bytes(length) for length in (0, 1, 300)]
    with (tmp_path / "ours").open("wb") as file:
        for record in records:
            write_record(file, record)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_plain_tensorflow_reads_a_shard(files, patches):
    for path, content in zip(files, patches, strict=True):
        for example, patch in zip(parse(path), content, strict=True):
            np.testing.assert_array_equal(example["images"], patch.images)
            np.testing.assert_array_equal(example["clear"], (patch.clear / SIZE**2).astype("float32"))
            np.testing.assert_array_equal(example["date"], patch.dates)
            np.testing.assert_array_equal(example["label"], patch.label.ravel())
            np.testing.assert_array_equal(example["weight"], patch.weight.ravel())
            assert (example["scene"].decode(), example["row"], example["column"]) == patch[5:]


def test_counts(tmp_path, patches):
    counts = write_shard(tmp_path / "a", tmp_path / "b", iter(patches[0]))
    label = np.stack([patch.label for patch in patches[0]])
    expected = {"patches": 3, "frames": 11, "known": (label != 255).sum(), "cultivated": (label == 1).sum()}
    assert counts == expected


@pytest.mark.parametrize("number", range(5))
def test_only_the_frames_asked_for_are_read(files, patches, number, rng):
    expected = [patch for shard in patches for patch in shard][number]
    opened = open_patches(files)
    count = len(expected.images)
    for frames in (np.arange(count), np.array([count - 1]), np.flatnonzero(rng.random(count) < 0.5)):
        assert_same(opened.read(number, frames), expected, frames)


@pytest.mark.parametrize(("gap", "buffers"), [(0, 1), (0, 1000), (100, 3), (4096, 2)])
def test_reading_in_few_or_many_calls(files, patches, gap, buffers, monkeypatch):
    monkeypatch.setattr("spinet_tf.data.shards._GAP", gap)
    monkeypatch.setattr("spinet_tf.data.shards._BUFFERS", buffers)
    opened = open_patches(files)
    for frames in ([0, 1, 2, 5], [1, 3, 5, 6], [6]):
        assert_same(opened.read(2, np.array(frames)), patches[0][2], frames)


def test_a_patch_is_the_readers_own(files):
    """What one reader does to its arrays, no other sees."""
    opened = open_patches(files)
    before = opened.read(0, np.arange(3))
    for array in opened.read(0, np.arange(3)):
        array[:] = 0
    np.testing.assert_array_equal(opened.read(0, np.arange(3)).images, before.images)


def test_uniform_weights(files, patches):
    patch = open_patches(files, weighted=False).read(1, np.array([0]))
    np.testing.assert_array_equal(patch.weight[..., 0], patches[0][1].label != 255)
    assert patch.weight.dtype == "float32"


def test_what_is_known_of_patches_without_reading_them(files, patches):
    opened = open_patches(files)
    every = [patch for shard in patches for patch in shard]
    assert len(opened) == 5
    assert opened.clear.shape == (5, 200)
    for number, patch in enumerate(every):
        np.testing.assert_array_equal(opened.clear[number, : len(patch.clear)], patch.clear / SIZE**2)
        assert not opened.clear[number, len(patch.clear) :].any()
        assert opened.cultivated[number] == np.sum(patch.label == 1)
        assert opened.known[number] == np.sum(patch.label != 255)
        shard = "a" if number < 3 else "b"
        assert opened.name(number) == f"{shard} at row {patch.row}, column {patch.column}"


def test_any_thread_reads(files, patches):
    every = [patch for shard in patches for patch in shard]
    opened = pickle.loads(pickle.dumps(open_patches(files)))
    numbers = np.random.default_rng(1).integers(5, size=200).tolist()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: opened.read(number, np.arange(len(every[number].images))), numbers))
    for number, patch in zip(numbers, results, strict=True):
        assert_same(patch, every[number], slice(None))


@pytest.mark.parametrize("frames", [[3], [-1], [0, 3]])
def test_frames_that_a_patch_does_not_have(files, frames):
    with pytest.raises(IndexError, match="has 3 frames"):
        open_patches(files).read(0, np.array(frames))


def test_no_file_stays_open(files):
    opened = open_patches(files)
    before = len(os.listdir("/proc/self/fd"))
    opened.read(0, np.arange(3))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_cut_off_while_it_is_used(files):
    opened = open_patches(files)
    with files[1].open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(SpinetError, match=r"b\.tfrecord ends before byte"):
        opened.read(4, np.arange(200))
    opened.read(0, np.arange(3))


def test_an_opened_folder(folder, patches):
    shards = Shards(folder, weights="ai4eo")
    assert (shards.bands, shards.scale, shards.patch) == (("B02", "B04", "B08"), SCALE, SIZE)
    assert (shards.mean, shards.std) == ([0.1] * 3, [0.2] * 3)
    assert (len(shards.training), len(shards.validation)) == (3, 2)
    assert_same(shards.training.read(2, np.arange(7)), patches[0][2], slice(None))
    assert_same(shards.validation.read(0, np.arange(2)), patches[1][0], slice(None))
    uniform = Shards(folder).training.read(0, np.array([0]))
    np.testing.assert_array_equal(uniform.weight[..., 0], patches[0][0].label != 255)


def change_manifest(**values):
    def change(folder):
        path = folder / "manifest.json"
        content = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def rewrite(name, write):
    return lambda folder: write(folder / name)


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def garble(path):
    """Other bytes, as many."""
    path.write_bytes(bytes(path.stat().st_size))


def shift_index(path):
    """An index as large as the true one, which points too far."""
    with np.load(path) as arrays:
        content = dict(arrays)
    content["weight"] += 100
    np.savez(path, **content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite("manifest.json", Path.unlink), r"There is no .*manifest\.json\. Preparing it was not finished\. Run"),
        (rewrite("manifest.json", truncate), r"manifest\.json cannot be read: "),
        (rewrite("manifest.json", lambda path: path.write_text("[1]")), "not written by training.prepare"),
        (rewrite("manifest.json", lambda path: path.write_bytes(b"\xff\xfe")), r"manifest\.json cannot be read: "),
        (change_manifest(format="other"), "not written by training.prepare"),
        (change_manifest(version=2), "has version 2 of the format. Expected 1. Prepare the scenes again"),
        (change_manifest(version=None), "has version None"),
        (change_manifest(mean=None), r"lacks what it should hold.*'mean'"),
        (change_manifest(bands=7), "holds another type"),
        (change_manifest(scenes=[{"role": "training"}]), "lacks what it should hold.*'files'"),
        (change_manifest(scenes=[]), "names no scenes for training"),
        (rewrite("shards/a.tfrecord", truncate), r"a\.tfrecord has \d+ bytes. Expected \d+: it is cut off"),
        (rewrite("shards/b.tfrecord", Path.unlink), r"b\.tfrecord is missing"),
        (rewrite("shards/a.npz", truncate), r"a\.npz has \d+ bytes"),
        (rewrite("shards/a.npz", garble), r"a\.npz cannot be read"),
        (rewrite("shards/a.npz", shift_index), r"a\.npz points beyond the end of a\.tfrecord"),
    ],
)
def test_what_cannot_be_opened(folder, damage, message):
    damage(folder)
    with pytest.raises(SpinetError, match=message):
        Shards(folder)


def test_a_folder_that_was_never_prepared(tmp_path):
    with pytest.raises(SpinetError, match=r"Expected a folder that training.prepare wrote. There is no .*\. Run"):
        Shards(tmp_path)


def test_weights_that_were_not_stored(folder):
    with pytest.raises(SpinetError, match=r"holds the weights 'ai4eo', besides 'uniform'. Asked for: 'scene'"):
        Shards(folder, weights="scene")


@pytest.mark.slow
def test_tensorflow_is_not_needed(folder):
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import numpy as np; from spinet_tf.data.shards import Shards; import spinet_tf.data.shard_writer\n"
        "print(Shards(sys.argv[1]).training.read(0, np.arange(3)).images.sum())"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, folder],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) == Shards(folder).training.read(0, np.arange(3)).images.sum()
