"""Tiles that share the means of their scene are answered as the scene is."""

import keras
import numpy as np
import pytest
import xarray as xr

from spinet_tf import SPInet, SpinetError
from spinet_tf.inference import groups, predict_scene, scene_means
from spinet_tf.inference.engine import KerasEngine, unknown_means
from spinet_tf.inference.groups import group_tiles
from spinet_tf.inference.parts import PartFolder
from spinet_tf.inference.recipe import Recipe
from spinet_tf.tiling import FrameChoice, SceneMeans, Tiling
from tests.inference.scenes import SharingEngine, make_scene


def gradient(height=64, width=96, time=3):
    """Dark in the west, bright in the east, so that means over tiles differ; frame 1 is cloudy."""
    scene = make_scene(height, width, time)
    scene["bands"] = scene["bands"] // 4 + xr.DataArray(np.linspace(500, 5000, width), dims="x").astype(np.uint16)
    return scene


@pytest.fixture(scope="module")
def whole():
    return predict_scene(SharingEngine(), gradient(), tile=96)["probability"]


def test_tiles_are_answered_as_the_scene_is(whole):
    tiled = predict_scene(SharingEngine(), gradient(), tile=32, overlap=8)
    assert tiled.attrs["means"] == "scene"
    # Four tiles make up the scene exactly, so their means do too.
    np.testing.assert_allclose(tiled["probability"], whole, rtol=1e-5)
    own = predict_scene(SharingEngine(), gradient(), tile=32, overlap=8, means="tile")
    assert own.attrs["means"] == "tile"
    assert np.abs(own["probability"] - whole).max() > 0.02


@pytest.mark.parametrize("options", [{"tile": 96}, {"tile": 16, "seam_free": 16}])
def test_one_tile_and_fixed_windows_have_their_own(options):
    engine = SharingEngine()
    engine.find_means = None  # never asked
    engine.predict = super(SharingEngine, engine).predict
    assert predict_scene(engine, gradient(), **options).attrs["means"] == "tile"


def test_frames_that_no_tile_of_the_sample_shows_have_their_own(monkeypatch):
    monkeypatch.setattr(scene_means, "SAMPLE", 1)
    scene = gradient()
    scene["bands"][2, :, :, :64] = 0  # of the tiles looked at, the first, the third frame shows nothing
    recipe = Recipe(Tiling.spread(64, 96, 4, 32, 0), FrameChoice(max_cloud=0.9))
    found = scene_means.find_scene_means(scene, recipe, SharingEngine())
    assert np.isfinite(found.frames).all(axis=1).tolist() == [True, False, False]
    result = predict_scene(SharingEngine(), scene, tile=32, overlap=0, max_cloud=0.9)
    assert np.isfinite(result["probability"]).all()


def test_a_small_scene_is_averaged_whole_and_a_large_one_by_a_sample(monkeypatch):
    scene = gradient(60, 60)  # nine tiles of 20 make it up
    recipe = Recipe(Tiling.spread(60, 60, 4, 16, 4), FrameChoice())
    found = scene_means.find_scene_means(scene, recipe, SharingEngine())
    bands = scene["bands"].values[[0, 2]]
    np.testing.assert_allclose(found.frames[[0, 2], 0], bands.mean(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.blocks, [[bands.mean()]], rtol=1e-6)
    monkeypatch.setattr(scene_means, "SAMPLE", 5)
    engine = SharingEngine()
    sampled = scene_means.find_scene_means(scene, recipe, engine)
    assert sampled.blocks != found.blocks
    np.testing.assert_allclose(sampled.blocks, found.blocks, rtol=0.1)


def test_windows_that_cannot_be_read_are_passed_over(monkeypatch):
    read, asked = scene_means.read_window, []

    def failing(unread, recipe, group):
        asked.append(group)
        if len(asked) <= broken:
            raise scene_means.UnreadableError(f"{group}: truncated")
        return read(unread, recipe, group)

    monkeypatch.setattr(scene_means, "read_window", failing)
    recipe = Recipe(Tiling.spread(64, 96, 4, 32, 0), FrameChoice())
    broken = 3
    only_last = scene_means.find_scene_means(gradient(), recipe, SharingEngine())
    assert len(asked) == len(group_tiles(recipe.tiling.for_means(), 1)) == 4
    assert np.isfinite(only_last.blocks).all()
    broken = 99
    with pytest.raises(SpinetError, match=r"^Cannot read hand-made, rows .*: truncated\.$"):
        predict_scene(SharingEngine(), gradient(), tile=32)


def test_a_scene_whose_sample_holds_no_data_has_none(monkeypatch):
    scene = gradient()
    scene["bands"][:] = 0
    recipe = Recipe(Tiling.spread(64, 96, 4, 32, 0), FrameChoice())
    assert scene_means.find_scene_means(scene, recipe, SharingEngine()) is None


def test_a_run_that_goes_on_keeps_the_means_it_began_with(tmp_path, whole):
    scene, output = gradient(), tmp_path / "map.tif"

    class Failing(SharingEngine):
        def predict_with_means(self, images, num_frames, means):
            if len(self.asked) == 2:  # what tells it from other engines, and a tile
                raise ValueError("gone")
            return super().predict_with_means(images, num_frames, means)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SIDE", 32)
        with pytest.raises(SpinetError, match="gone"):
            predict_scene(Failing(), scene, output, tile=32, overlap=0, batch=1)
        # As another version of the scene's means would be.
        patch.setattr(scene_means, "SAMPLE", 1)
        result = predict_scene(SharingEngine(), scene, output, tile=32, overlap=0, batch=1)
    assert result.attrs["resumed"] == 1
    assert result.attrs["means"] == "scene"
    np.testing.assert_allclose(result["probability"], whole, rtol=1e-5)


def test_parts_keep_means_and_tell_of_damage(tmp_path):
    parts = PartFolder(tmp_path)
    assert parts.means() is None
    means = SceneMeans(np.ones((2, 3), np.float32), np.array([[1, 2, 3], [np.nan] * 3], np.float32))
    parts.save_means(means)
    kept = parts.means()
    np.testing.assert_array_equal(kept.blocks, means.blocks)
    np.testing.assert_array_equal(kept.frames, means.frames)
    (tmp_path / "means.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(SpinetError, match=r"means\.npz was damaged.*run the same command again"):
        parts.means()
    assert parts.means() is None


def test_other_means_are_refused():
    with pytest.raises(SpinetError, match=r"Expected means over scene or tile\. Received: 'world'"):
        predict_scene(SharingEngine(), gradient(), means="world")


# === The network ===


@pytest.fixture(scope="module")
def engine():
    """A network whose gates and filters matter."""
    keras.utils.set_random_seed(3)
    model = SPInet(bands=["B02", "B04", "B08"], filters=6, tefa_blocks=2, bottleneck=2)
    rng = np.random.default_rng(3)
    for block in ("tefa_1", "tefa_2"):
        layer = model.get_layer(block)
        layer.excite.kernel.assign(6 * rng.normal(size=layer.excite.kernel.shape))
    kernel = model.get_layer("tern").proposal.kernel
    kernel.assign(rng.normal(size=kernel.shape))
    return KerasEngine(model)


def series(seed, batch=1, time=3, height=24, width=22):
    images = np.random.default_rng(seed).integers(1, 9000, (batch, time, height, width, 3), np.uint16)
    images[:, :, :, width // 2 :] //= 3
    return images


def test_with_its_own_means_the_network_answers_as_ever(engine):
    images, num_frames = series(0, batch=2, time=4), np.array([4, 2], np.int32)
    expected = engine.predict(images, num_frames)
    own = engine.find_means(images, num_frames)
    assert own.blocks.shape == (2, 2, 6)
    assert own.frames.shape == (2, 4, 6)
    np.testing.assert_allclose(engine.predict_with_means(images, num_frames, own), expected, atol=1e-6)
    unknown = unknown_means(2, 4, 2, 6)
    np.testing.assert_allclose(engine.predict_with_means(images, num_frames, unknown), expected, atol=1e-6)
    alone = engine.find_means(images[1:, :2], num_frames[1:])
    np.testing.assert_allclose(own.blocks[1:], alone.blocks, atol=1e-6)
    np.testing.assert_allclose(own.frames[1:, :2], alone.frames, atol=1e-6)


def test_a_tile_with_the_means_of_its_scene_is_answered_as_the_scene(engine):
    images, num_frames = series(1, height=80, width=64), np.array([3], np.int32)
    whole = engine.predict(images, num_frames)
    means = engine.find_means(images, num_frames)
    tile = images[:, :, 8:72, :56]
    inner = np.s_[:, 4 * 14 : 4 * 50, : 4 * 40]
    expected = whole[:, 4 * 8 : 4 * 72, : 4 * 56][inner]
    shared = engine.predict_with_means(tile, num_frames, means)[inner]
    own = engine.predict(tile, num_frames)[inner]
    np.testing.assert_allclose(shared, expected, atol=2e-4)
    assert np.abs(own - expected).max() > 20 * np.abs(shared - expected).max()
