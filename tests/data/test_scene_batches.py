"""Batches cut from scenes: each alone is that of a long run, and shows the place that it names."""

import functools
import re

import numpy as np
import pytest

from spinet_tf.data.patches import Patch, cut_patch, grid_windows, labelled, turn
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.scene import open_scene
from spinet_tf.data.scene_batches import SceneBatches, SceneGrid
from spinet_tf.data.shard_batches import GridBatches
from spinet_tf.data.shards import Shards
from spinet_tf.data.simulate import synthesize
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import choose_frames
from tests.data.made_patches import assert_equal
from tests.labelled import BANDS, labelled_scene, position_scene
from training.prepare import prepare

VARIED = Sampling("random", count=(1, 3), max_cloud=0.5, jitter=0.1, frame_dropout=0.3, balance=True)


def scenes():
    return [position_scene(9 + n, 10, time=3 + n, name=f"scene-{n}") for n in range(3)]


def made(sampling=VARIED, batch=6, sources=None, **options):
    return SceneBatches(sources or scenes(), BANDS, patch=4, sampling=sampling, batch=batch, seed=5, **options)


def test_a_batch_shows_the_places_that_it_names():
    batches = made(Sampling("all", augment=False))
    for step in (0, 20, 21, 50):
        batch = batches[step]
        for row, name in enumerate(batches.names(step)):
            number, y, x = map(int, re.fullmatch(r"scene-(\d) at row (\d+), column (\d+)", name).groups())
            patch = cut_patch(labelled(scenes()[number]), y, x, 4, choose_frames)
            length = batch.num_frames[row]
            assert length == 3 + number
            assert_equal((batch.images[row, :length], batch.label[row], batch.weight[row]), patch)


def test_a_batch_alone_is_that_of_a_long_run():
    run = made()
    expected = [run[step] for step in range(45)]
    # 21 batches are mixed at a time.
    for step in (44, 0, 22):
        assert_equal(made()[step], expected[step])
    again = made(sources=[lambda scene=scene: scene for scene in scenes()], memory=0)
    for step in (21, 20, 43, 42, 5):
        assert_equal(again[step], expected[step])
    assert len({batch.images.tobytes() for batch in expected}) == 45


def test_all_scenes_take_turns():
    batches = made()
    names = [name.split()[0] for step in range(21) for name in batches.names(step)]
    # 16 visits of 8 patches, of which 126 fill batches.
    assert sorted(names.count(f"scene-{n}") // 8 for n in range(3)) == [5, 5, 5]


def test_turns_and_places_differ_each_time():
    opened = []

    def source(number):
        opened.append(number)
        return scenes()[number]

    batches = made(sources=[functools.partial(source, number) for number in range(3)], memory=0)
    batches[0], batches[21]
    turns = {tuple(opened[start : start + 3]) for start in range(1, 31, 3) if len(opened) >= start + 3}
    assert len(turns) > 2

    alone = made(sources=[position_scene()])
    mixed = [sorted(name for step in range(21) for name in alone.names(21 * block + step)) for block in range(2)]
    assert mixed[0] != mixed[1]


def test_frames_and_turns_are_drawn_for_each_batch():
    batches = made(Sampling("clearest", count=(1, 3)))
    plain = made(Sampling("clearest", count=(1, 3), augment=False))
    counts, turns = set(), []
    for step in range(21):
        assert batches.names(step) == plain.names(step)
        counts.add(int(batches[step].num_frames[0]))
        patch = Patch(plain[step].images[0], plain[step].label[0], plain[step].weight[0])
        turns.append([np.array_equal(turn(patch, k).images, batches[step].images[0]) for k in range(8)].index(True))
    assert counts == {1, 2, 3}
    assert len(set(turns)) > 4


def test_memory_keeps_as_many_scenes_as_fit():
    opened = []

    def source(number):
        opened.append(number)
        return scenes()[number]

    size = labelled(scenes()[2]).nbytes
    batches = made(sources=[functools.partial(source, number) for number in range(3)], memory=size)
    batches[0], batches[21]
    assert opened.count(0) == 1
    assert min(opened.count(1), opened.count(2)) > 5
    assert batches.parallel == 1


def test_batches_have_scenes_mixed_and_lengths_alike():
    batches = made(Sampling("all"), batch=8)
    lengths = np.array([batches[step].num_frames for step in range(32)])
    assert 1 - lengths.sum() / (lengths.max(axis=1) * 8).sum() < 0.04
    longest = lengths.max(axis=1).tolist()
    assert longest[:16] != sorted(longest[:16])
    mixed = made(Sampling("clearest", 3), batch=8)
    assert np.mean([len({name.split()[0] for name in mixed.names(step)}) for step in range(16)]) > 2.5


def test_a_batch_larger_than_what_is_mixed_otherwise():
    batch = made(batch=150)[1]
    assert len(batch.images) == 150


def test_workers_share_each_batch():
    batches = made()
    shares = [batches.shard(worker, 2) for worker in range(2)]
    for step in (0, 30):
        whole = batches[step]
        for worker, share in enumerate(shares):
            part = share[step]
            longest = part.images.shape[1]
            assert_equal(part, (whole.images[worker::2, :longest], *(array[worker::2] for array in whole[1:])))
            assert share.names(step) == batches.names(step)[worker::2]


def test_balance_looks_for_the_rare_class():
    scene = position_scene()
    scene["label"][:] = 0
    scene["label"][:4, :4] = 1
    positive = {}
    for balance in (False, True):
        batches = made(Sampling(balance=balance), sources=[scene])
        positive[balance] = np.mean([batches[step].label.any(axis=(1, 2, 3)).mean() for step in range(42)])
    # One window of 6 x 7 holds the cultivated pixels.
    assert abs(positive[False] - 1 / 42) < 0.03
    assert abs(positive[True] - 0.5) < 0.08


def test_the_grid_of_scenes_is_that_of_each():
    sources = [labelled_scene(12, 10, seed=1, name="a"), labelled_scene(9, 11, time=6, seed=2, name="b")]
    grid = SceneGrid(sources, patch=5, memory=0)
    expected = [(number, *window) for number in range(2) for window in grid_windows(labelled(sources[number]), 5)]
    assert len(grid) == len(expected) == 12
    np.testing.assert_array_equal(grid.groups, [number for number, *_ in expected])
    for number, (source, row, column, weight) in enumerate(expected):
        scene = labelled(sources[source])
        assert grid.name(number) == f"{'ab'[source]} at row {row}, column {column}"
        patch = cut_patch(scene, row, column, 5, lambda clear: np.array([0, 3]))
        assert_equal(grid.read(number, np.array([0, 3])), patch._replace(weight=weight))
        clear = scene["valid"].values[:, row : row + 5, column : column + 5].mean(axis=(1, 2))
        np.testing.assert_allclose(grid.clear[number], np.r_[clear, np.zeros(6 - len(clear))], atol=1e-12)


def test_the_grid_opens_scenes_one_after_the_other_however_little_memory_there_is():
    opened = []

    def source(seed):
        opened.append(seed)
        return labelled_scene(seed=seed)

    grid = SceneGrid([lambda: source(0), lambda: source(1)], patch=5, memory=0)
    batches = GridBatches(grid, Sampling("all"), 4, grid.groups)
    assert len([*batches]) == 3
    assert opened == [0, 1, 0, 1]


def test_scenes_in_which_nothing_counts():
    scene = labelled_scene()
    scene["valid"][:] = False
    grid = SceneGrid([scene], patch=5)
    with pytest.raises(SpinetError, match="Expected at least one patch"):
        GridBatches(grid, Sampling("all"), 4, grid.groups)


@pytest.mark.parametrize("weights", ["uniform", "ai4eo"])
def test_prepared_scenes_validate_on_the_same_pixels_as_scenes(tmp_path, weights):
    paths = synthesize(tmp_path / "scenes", 2, size=(20, 13), dates=7)
    prepare(tmp_path / "scenes", tmp_path / "prepared", patch=8, workers=1)
    grid = SceneGrid([functools.partial(open_scene, paths[-1])], patch=8, weights=weights)
    sampling = Sampling("all", max_cloud=0.4)
    found = []
    for batches in (
        GridBatches(Shards(tmp_path / "prepared", weights).validation, sampling, 2),
        GridBatches(grid, sampling, 2, grid.groups),
    ):
        rows = {}
        for step, batch in enumerate(batches):
            for name, images, length, label, weight in zip(batches.names(step), *batch, strict=True):
                rows[name] = images[:length], label * (weight > 0), weight
        found.append(rows)
    assert sorted(found[0]) == sorted(found[1])
    assert len(found[0]) == 6
    for name, patch in found[0].items():
        assert_equal(patch, found[1][name])


@pytest.mark.parametrize("options", [{"batch": 0}, {"steps": 0}])
def test_numbers_out_of_range(options):
    with pytest.raises(SpinetError, match="a batch and steps of at least 1"):
        SceneBatches(scenes(), **options)
