"""Patches show what the scene holds at their place: images, label and weight of one window."""

import numpy as np
import pytest
import xarray as xr

from spinet_tf.data.ai4eo import label_weights
from spinet_tf.data.patches import cut_patch, grid_windows, label_scale, labelled, random_patch, read_patch, turn
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import choose_frames
from tests.labelled import labelled_scene


def every(clear):
    return np.arange(len(clear))


def test_labelled_selects_bands_by_name():
    scene = labelled_scene()
    np.testing.assert_array_equal(labelled(scene, ("B08", "B02"))["bands"], scene["bands"].sel(band=["B08", "B02"]))
    with pytest.raises(SpinetError, match="B11"):
        labelled(scene, ("B04", "B11"))


def test_weights():
    scene = labelled_scene()
    label = scene["label"].values
    np.testing.assert_array_equal(labelled(scene)["weight"], label != 255)
    np.testing.assert_array_equal(labelled(scene, weights="ai4eo")["weight"], label_weights(label))
    scene["weight"] = scene["label"].dims, np.full(label.shape, 2.5, "float32")
    np.testing.assert_array_equal(labelled(scene, weights="scene")["weight"], np.where(label == 255, 0, 2.5))
    np.testing.assert_array_equal(labelled(scene)["weight"], label != 255)


def test_label_on_the_images_own_grid():
    scene = labelled_scene(scale=1).rename(y_label="y", x_label="x")
    prepared = labelled(scene)
    assert prepared["label"].dims == ("y_label", "x_label")
    assert label_scale(prepared) == 1
    np.testing.assert_array_equal(prepared["label"], scene["label"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda scene: scene.drop_vars("label"), {}, "made has no label"),
        (lambda scene: scene.assign(label=scene["label"] * 0 + 255), {}, "unknown pixels only"),
        (lambda scene: scene, {"weights": "scene"}, "Expected weights out of uniform, ai4eo, scene"),
        (lambda scene: scene, {"weights": "heavy"}, "Received: 'heavy' for made"),
    ],
)
def test_scenes_that_cannot_be_learnt_from(change, options, message):
    with pytest.raises(SpinetError, match=message):
        labelled(change(labelled_scene()), **options)


def test_a_patch_is_the_window_of_the_scene():
    scene = labelled(labelled_scene())
    patch = cut_patch(scene, 3, 2, 5, lambda clear: np.array([0, 3]))
    expected = scene["bands"].values[[0, 3], :, 3:8, 2:7]
    np.testing.assert_array_equal(patch.images, expected.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(patch.label[..., 0], scene["label"].values[12:32, 8:28])
    np.testing.assert_array_equal(patch.weight[..., 0], scene["weight"].values[12:32, 8:28])
    assert [array.dtype for array in patch] == ["uint16", "uint8", "float32"]


def test_unknown_pixels_are_no_class_and_weigh_nothing():
    patch = cut_patch(labelled(labelled_scene()), 0, 0, 5, every)
    assert not patch.label[:8, :4].any()
    assert not patch.weight[:8, :4].any()
    assert patch.weight.sum() == 20 * 20 - 32


def test_frames_are_chosen_by_the_clear_ground_inside_the_window():
    scene = labelled(labelled_scene())
    asked = []
    for column in (0, 3, 5):
        cut_patch(scene, 0, column, 5, lambda clear: asked.append(clear.tolist()) or np.array([0]))
    # Frame 2 is cloudy left of column 5.
    assert asked == [[1, 0, 0, 1], [1, 0, 0.6, 1], [1, 0, 1, 1]]


def test_windows_without_ground_or_label_are_none():
    scene = labelled(labelled_scene())
    scene["valid"][:, :5, :5] = False
    assert cut_patch(scene, 0, 0, 5, every) is None
    assert cut_patch(scene, 1, 0, 5, every) is not None
    scene["weight"][:20, 20:] = 0
    assert cut_patch(scene, 0, 5, 5, every) is None


def test_only_chosen_frames_are_read():
    dask_array = pytest.importorskip("dask.array")
    scene = labelled_scene()
    bands = scene["bands"].values
    read = []

    def block(info):
        frame = info[None]["array-location"][0][0]
        read.append(frame)
        return bands[frame : frame + 1]

    chunks = ((1,) * 4, *((size,) for size in bands.shape[1:]))
    lazy = dask_array.map_blocks(lambda block_info=None: block(block_info), dtype="uint16", chunks=chunks)
    scene["bands"] = scene["bands"].dims, lazy
    prepared = labelled(scene)
    read.clear()
    patch = cut_patch(prepared, 0, 0, 5, lambda clear: np.array([1, 3]))
    np.testing.assert_array_equal(patch.images, bands[[1, 3], :, :5, :5].transpose(0, 2, 3, 1))
    assert sorted(set(read)) == [1, 3]


def test_random_patches_reach_every_place_and_avoid_useless_ones():
    scene = labelled(labelled_scene(6, 7))
    y, x = np.mgrid[:6, :7]
    scene["bands"][0, 0] = 10 * y + x
    scene["valid"][:, :4, :4] = False
    rng = np.random.default_rng(0)
    places = {int(random_patch(scene, 4, every, rng)[2].images[0, 0, 0, 0]) for _ in range(300)}
    assert places == {10 * y + x for y in range(3) for x in range(4)} - {0}


def test_balanced_patches_are_those_of_random_pixels_of_either_class():
    """As often as counting the windows that hold each pixel says, at the edges too."""
    scene = labelled(labelled_scene(6, 7))
    y, x = np.mgrid[:6, :7]
    scene["bands"][0, 0] = 10 * y + x
    label = np.zeros((24, 28), "uint8")
    label[:5, :3], label[20:, 24:], label[8:12, :8] = 1, 1, 255
    scene["label"] = scene["label"].dims, label

    expected = np.zeros((3, 4))
    for wanted in (0, 1):
        for fine_row, fine_column in np.argwhere(label == wanted):
            rows = [row for row in range(3) if row <= fine_row // 4 < row + 4]
            columns = [column for column in range(4) if column <= fine_column // 4 < column + 4]
            share = 0.5 / np.sum(label == wanted) / len(rows) / len(columns)
            expected[np.ix_(rows, columns)] += share

    rng = np.random.default_rng(0)
    drawn = np.zeros((3, 4))
    for _ in range(4000):
        row, column, patch = random_patch(scene, 4, every, rng, balance=True)
        assert patch.images[0, 0, 0, 0] == 10 * row + column
        drawn[row, column] += 1
    np.testing.assert_allclose(drawn / 4000, expected, atol=0.025)
    assert expected.max() > 0.2


def test_rare_pixels_are_found_wherever_they_are():
    scene = labelled_scene()
    scene["label"][:] = 0
    scene["label"][0, 0] = scene["label"][47, 39] = 1
    scene = labelled(scene)
    rng = np.random.default_rng(0)
    places = [random_patch(scene, 4, every, rng, balance=True)[:2] for _ in range(400)]
    assert 70 < places.count((0, 0)) < 130
    assert 70 < places.count((8, 6)) < 130


@pytest.mark.parametrize("value", [0, 1])
def test_a_scene_of_one_class_cannot_be_balanced_but_used(value):
    scene = labelled_scene(6, 7)
    scene["label"][:] = 255
    scene["label"][:4, :4] = value
    scene = labelled(scene)
    rng = np.random.default_rng(0)
    assert {random_patch(scene, 4, every, rng, balance=True)[:2] for _ in range(20)} == {(0, 0)}


def test_frames_of_a_window_are_read_by_number():
    scene = labelled(labelled_scene())
    expected = cut_patch(scene, 3, 2, 5, lambda clear: np.array([0, 3]))
    for array, same in zip(read_patch(scene, 3, 2, 5, np.array([0, 3])), expected, strict=True):
        np.testing.assert_array_equal(array, same)


def test_a_scene_without_a_usable_place():
    scene = labelled(labelled_scene())
    scene["valid"][:] = False
    with pytest.raises(SpinetError, match="made: none of 500 random windows of 4x4"):
        random_patch(scene, 4, choose_frames, np.random.default_rng(0))


def test_the_grid_counts_each_known_pixel_once():
    scene = labelled(labelled_scene(12, 10), weights="ai4eo")
    windows = grid_windows(scene, 5)
    assert [window[:2] for window in windows] == [(0, 0), (0, 5), (5, 0), (5, 5), (7, 0), (7, 5)]
    total = np.zeros((48, 40), "float32")
    for row, column, weight in windows:
        total[4 * row : 4 * row + 20, 4 * column : 4 * column + 20] += weight[..., 0]
    np.testing.assert_array_equal(total, scene["weight"])


def test_the_grid_leaves_out_windows_in_which_nothing_counts():
    scene = labelled(labelled_scene(10, 10))
    scene["valid"][:, :5, 5:] = False
    scene["weight"][20:, :20] = 0
    assert [window[:2] for window in grid_windows(scene, 5)] == [(0, 0), (5, 5)]


@pytest.mark.parametrize("symmetry", range(8))
def test_turning_keeps_label_and_images_together(symmetry):
    scene = labelled_scene(6, 6, scale=2)
    scene["bands"][:] = np.arange(36).reshape(6, 6)
    values = np.arange(36).reshape(6, 6).repeat(2, axis=0).repeat(2, axis=1)
    scene["label"] = scene["label"].dims, (values % 2).astype("uint8")
    scene["weight"] = scene["label"].dims, values.astype("float32")
    patch = turn(cut_patch(labelled(scene, weights="scene"), 0, 0, 6, every), symmetry)
    fine = patch.images[0, :, :, 0].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(patch.weight[..., 0], fine)
    np.testing.assert_array_equal(patch.label[..., 0], fine % 2)
    for frame in patch.images:
        np.testing.assert_array_equal(frame, patch.images[0])


def test_the_eight_symmetries_differ():
    patch = cut_patch(labelled(labelled_scene()), 4, 4, 5, every)
    assert len({turn(patch, symmetry).images.tobytes() for symmetry in range(8)}) == 8
    np.testing.assert_array_equal(turn(patch, 0).images, patch.images)


@pytest.mark.parametrize("cut", [grid_windows, lambda *args: random_patch(*args, every, np.random.default_rng(0))])
def test_patch_larger_than_the_scene(cut):
    with pytest.raises(SpinetError, match=r"at most 10 pixels.*made \(12x10\).*Received: 11"):
        cut(labelled(labelled_scene(12, 10)), 11)


def test_works_on_a_scene_with_coordinates():
    scene = labelled_scene().assign_coords(y=np.arange(12.0), x=np.arange(10.0), y_label=np.arange(48) / 4)
    prepared = labelled(scene)
    assert isinstance(prepared, xr.Dataset)
    np.testing.assert_array_equal(prepared["label"], scene["label"])
