"""Batches are a function of the seed and their number: alone or in a run, on one worker or several."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from spinet_tf.data.batches import bucketed
from spinet_tf.data.patches import turn
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.shard_batches import GridBatches, ShardBatches
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import choose_frames
from tests.data.made_patches import MadePatches, assert_equal, numbers

EVERYTHING = Sampling("random", count=(3, 6), max_cloud=0.6, jitter=0.1, frame_dropout=0.2, balance=True)


def ragged(count=22, low=3, high=12, seed=0):
    return MadePatches(np.random.default_rng(seed).integers(low, high + 1, count), seed)


def padded_share(lengths):
    """The share of frames that are padding in batches of these lengths, (batches, batch)."""
    return 1 - lengths.sum() / (lengths.max(axis=1) * lengths.shape[1]).sum()


def test_a_batch_holds_the_patches_that_it_names():
    patches = ragged()
    batches = ShardBatches(patches, Sampling("all", max_cloud=0.5), batch=4)
    turns = [[] for _ in range(12)]
    for step in range(12):
        batch = batches[step]
        found = numbers(batch)
        assert batches.names(step) == [f"made {number}" for number, _ in found]
        assert batch.images.shape[1] == batch.num_frames.max()
        assert [array.dtype for array in batch] == ["uint16", "int32", "uint8", "float32"]
        for row, (number, frames) in enumerate(found):
            np.testing.assert_array_equal(frames, choose_frames(patches.clear[number], "all", max_cloud=0.5))
            patch = patches.read(number, frames)
            turned = [turn(patch, symmetry) for symmetry in range(8)]
            same = [np.array_equal(candidate.images, batch.images[row, : len(frames)]) for candidate in turned]
            assert sum(same) == 1
            np.testing.assert_array_equal(turned[same.index(True)].label, batch.label[row])
            np.testing.assert_array_equal(turned[same.index(True)].weight, batch.weight[row])
            turns[step].append(same.index(True))
    assert np.mean([len(set(row)) for row in turns]) > 2.5


def test_each_pass_visits_every_patch_once_in_another_order():
    batches = ShardBatches(ragged(22), Sampling(), batch=4)
    assert batches.steps == 5
    visits = [[name for step in range(5 * turn, 5 * turn + 5) for name in batches.names(step)] for turn in range(12)]
    assert all(len(set(names)) == 20 for names in visits)
    assert len({tuple(names) for names in visits}) == 12
    # What does not fill a batch differs, so that nothing is left out for ever.
    left_out = [{f"made {number}" for number in range(22)} - set(names) for names in visits]
    assert len(set.union(*left_out)) > 8


def test_an_epoch_of_other_length_still_goes_through_all_patches():
    batches = ShardBatches(ragged(20), Sampling(), batch=4, steps=2)
    assert batches.steps == 2
    assert len({name for step in range(5) for name in batches.names(step)}) == 20


def test_fewer_patches_than_a_batch():
    batches = ShardBatches(ragged(3), Sampling(), batch=8)
    assert batches.steps == 1
    counts = np.bincount([number for number, _ in numbers(batches[1])])
    assert sorted(counts) == [2, 3, 3]


def test_a_batch_alone_is_that_of_a_long_run_in_any_thread():
    run = ShardBatches(ragged(), EVERYTHING, batch=4, seed=7)
    expected = [run[step] for step in range(25)]
    for step in (24, 0, 13):
        assert_equal(ShardBatches(ragged(), EVERYTHING, batch=4, seed=7)[step], expected[step])
    shared = ShardBatches(ragged(), EVERYTHING, batch=4, seed=7)
    steps = np.random.default_rng(0).permutation(25).tolist()
    with ThreadPoolExecutor(6) as threads:
        for step, batch in zip(steps, threads.map(shared.__getitem__, steps), strict=True):
            assert_equal(batch, expected[step])
    assert len({batch.images.tobytes() for batch in expected}) == 25
    other = ShardBatches(ragged(), EVERYTHING, batch=4, seed=8)
    assert other.names(0) != run.names(0)
    assert any(not np.array_equal(other[step].label, expected[step].label) for step in range(3))


@pytest.mark.parametrize("method", ["clearest", "random"])
def test_frames_are_chosen_from_the_patchs_own(method):
    patches = ragged(8, 10, 20)
    batches = ShardBatches(patches, Sampling(method, count=5, max_cloud=0.4), batch=4)
    taken = {}
    for step in range(20):
        for number, frames in numbers(batches[step]):
            clear = patches.clear[number]
            if method == "clearest":
                np.testing.assert_array_equal(frames, choose_frames(clear, "clearest", 5))
            else:
                candidates = choose_frames(clear, "all", max_cloud=0.4)
                assert len(frames) == min(5, len(candidates))
                assert set(frames) <= set(candidates)
            taken.setdefault(number, set()).add(tuple(frames))
    several = [len(choices) for choices in taken.values()]
    assert max(several) == 1 if method == "clearest" else max(several) > 5


def test_the_number_of_frames_is_drawn_for_each_batch():
    batches = ShardBatches(ragged(16, 8, 12), Sampling("clearest", count=(3, 6)), batch=4)
    lengths = [batches[step].num_frames for step in range(40)]
    assert all(np.ptp(row) == 0 for row in lengths)
    assert {int(row[0]) for row in lengths} == {3, 4, 5, 6}


def test_frames_are_left_out_of_every_patch_anew():
    patches = ragged(4, 12, 12)
    batches = ShardBatches(patches, Sampling("clearest", count=12, frame_dropout=0.5), batch=4)
    lengths = np.concatenate([batches[step].num_frames for step in range(30)])
    assert 5 < lengths.mean() < 7
    assert len(set(lengths)) > 4


def test_balance_draws_as_many_cultivated_pixels_as_others():
    patches = MadePatches(np.full(30, 3))
    patches.cultivated = np.r_[np.full(20, 0.0), np.full(5, 64), np.full(5, 16)]
    share = patches.cultivated / patches.cultivated.sum() + (64 - patches.cultivated) / (64 - patches.cultivated).sum()
    batches = ShardBatches(patches, Sampling(balance=True), batch=4)
    drawn = np.zeros(30)
    for step in range(7 * 40):
        np.add.at(drawn, [number for number, _ in numbers(batches[step])], 1)
    # Not those of one scene after the other.
    first = [int(name.split()[1]) for step in range(7) for name in batches.names(step)]
    assert np.mean(np.diff(np.reshape(first, (7, 4)), axis=1) < 0) > 0.2
    # In each pass of 28, every patch as often as it should be, up to one.
    np.testing.assert_allclose(drawn / 40, 28 * share / 2, atol=0.35)
    for turn_number in range(5):
        names = [name for step in range(7 * turn_number, 7 * turn_number + 7) for name in batches.names(step)]
        counts = np.array([names.count(f"made {number}") for number in range(30)])
        assert np.all(np.abs(counts - 28 * share / 2) < 1 + 1e-9)


def test_nothing_to_balance():
    patches = ragged()
    patches.cultivated = np.zeros(22)
    with pytest.raises(SpinetError, match="Expected cultivated pixels and others to balance"):
        ShardBatches(patches, Sampling(balance=True), batch=4)


def test_bucketing_wastes_little_and_stays_random():
    patches = ragged(2000, 5, 40)
    batches = ShardBatches(patches, Sampling("all", max_cloud=1), batch=8)
    lengths = patches.frames[[[int(name.split()[1]) for name in batches.names(step)] for step in range(batches.steps)]]
    assert padded_share(lengths) < 0.02
    assert padded_share(np.random.default_rng(0).permutation(patches.frames).reshape(-1, 8)) > 0.25
    longest = lengths.max(axis=1)
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.2
    # A patch meets others each time.
    meets = [
        next(names for step in range(turn * 250, turn * 250 + 250) if "made 0" in (names := batches.names(step)))
        for turn in range(3)
    ]
    assert len(set(meets[0]) & set(meets[1])) < 4


def test_bucketed_gives_every_item_once():
    rng = np.random.default_rng(0)
    rows = bucketed(rng.permutation(120), rng.integers(1, 9, 120), 4, rng)
    assert rows.shape == (30, 4)
    np.testing.assert_array_equal(np.sort(rows.ravel()), np.arange(120))


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_all_workers_together_have_the_whole_batch(workers):
    batches = ShardBatches(ragged(), EVERYTHING, batch=4, seed=3)
    shares = [batches.shard(worker, workers) for worker in range(workers)]
    for step in (0, 3, 9):
        whole = batches[step]
        for worker, share in enumerate(shares):
            part = share[step]
            longest = part.images.shape[1]
            assert longest == part.num_frames.max()
            assert_equal(part, (whole.images[worker::workers, :longest], *(a[worker::workers] for a in whole[1:])))
            assert share.names(step) == batches.names(step)[worker::workers]


def test_a_share_can_be_shared():
    batches = ShardBatches(ragged(), Sampling(), batch=4)
    assert batches.shard(0, 2).shard(1, 2).names(2) == batches.names(2)[2:3]
    assert batches.shard(1, 2).shard(0, 2).names(2) == batches.names(2)[1:2]
    assert batches.shard(1, 2).names(2) == batches.names(2)[1::2]


@pytest.mark.parametrize(("worker", "workers"), [(-1, 2), (2, 2), (0, 5), (0, 0)])
def test_shares_that_do_not_exist(worker, workers):
    with pytest.raises(SpinetError, match=f"workers <= 4.*Received: worker {worker} of {workers}"):
        ShardBatches(ragged(), Sampling(), batch=4).shard(worker, workers)


def test_the_grid_has_every_patch_once_by_length():
    patches = ragged(22)
    batches = GridBatches(patches, EVERYTHING, batch=4)
    assert len(batches) == batches.count == 6
    found = [numbers(batch) for batch in batches]
    assert [len(rows) for rows in found] == [4, 4, 4, 4, 4, 2]
    assert sorted(number for rows in found for number, _ in rows) == list(range(22))
    lengths = [len(frames) for rows in found for _, frames in rows]
    assert lengths == sorted(lengths)
    for step, (rows, again) in enumerate(zip(found, batches, strict=True)):
        assert batches.names(step) == [f"made {number}" for number, _ in rows]
        for row, (number, frames) in enumerate(rows):
            # Neither turned nor varied.
            patch = patches.read(number, frames)
            assert_equal((again.images[row, : len(frames)], again.label[row], again.weight[row]), patch)


def test_the_grid_takes_the_largest_count_and_the_same_frames_each_time():
    patches = ragged(6, 12, 12)
    first, second = ([*GridBatches(patches, Sampling("random", (2, 5), max_cloud=1), batch=4)] for _ in range(2))
    assert all(np.all(batch.num_frames == 5) for batch in first)
    for left, right in zip(first, second, strict=True):
        assert_equal(left, right)


def test_groups_of_the_grid_stay_together():
    patches, groups = ragged(22), np.arange(22) % 3
    order = [number for batch in GridBatches(patches, Sampling("all"), 4, groups) for number, _ in numbers(batch)]
    assert [group for group, _ in itertools.groupby(groups[order])] == [0, 1, 2]
    # Two batches at once could go back and forth between two groups.
    assert GridBatches(patches, Sampling("all"), 4, groups).parallel == 1


def test_workers_share_the_grid_and_may_have_none_of_the_last_batch():
    batches = GridBatches(ragged(9), Sampling("all"), batch=4)
    first, second = batches.shard(0, 2), batches.shard(1, 2)
    assert sorted(number for part in (first, second) for batch in part for number, _ in numbers(batch)) == [*range(9)]
    assert [len(batch.label) for batch in second] == [2, 2, 0]
    assert second[2].images.shape == (0, 1, 4, 4, 3)
    assert second[2].label.shape == second[2].weight.shape == (0, 8, 8, 1)


def test_numbers_of_no_batch():
    with pytest.raises(IndexError, match="Received: -1"):
        ShardBatches(ragged(), Sampling(), batch=4)[-1]
    with pytest.raises(IndexError, match=r"from 0 to 5\. Received: 6"):
        GridBatches(ragged(), Sampling(), batch=4)[6]


@pytest.mark.parametrize("kind", [ShardBatches, GridBatches])
def test_what_no_batches_can_be_made_of(kind):
    with pytest.raises(SpinetError, match=r"at least one patch\. Received none"):
        kind(ragged(0), Sampling(), batch=4)
    with pytest.raises(SpinetError, match=r"batch of at least 1 patch\. Received: 0"):
        kind(ragged(), Sampling(), batch=0)
    patches = ragged()
    patches.clear[5] = 0
    with pytest.raises(SpinetError, match="made 5 has no clear pixel"):
        kind(patches, Sampling(), batch=4)


def test_an_epoch_without_steps():
    with pytest.raises(SpinetError, match=r"at least 1 step\. Received: 0"):
        ShardBatches(ragged(), Sampling(), batch=4, steps=0)
