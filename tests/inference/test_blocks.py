"""Blocks bound what is read and held at once, and do not change the map."""

import re

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference import groups as groups_module
from spinet_tf.inference import predict_scene
from spinet_tf.inference.assembly import assemble, entropy
from spinet_tf.inference.groups import fitting_side, group_tiles
from spinet_tf.inference.parts import Part, PartMemory
from spinet_tf.tiling import Tiling, tiles
from tests.inference.scenes import MeanEngine, TileMeanEngine, make_scene


@pytest.fixture
def side(monkeypatch):
    """Sets the side of blocks."""
    return lambda pixels: monkeypatch.setattr(groups_module, "SIDE", pixels)


def patchy_scene(height=70, width=61, time=6):
    """Clouds and gaps that differ from tile to tile, and a corner that nothing was ever seen of."""
    scene = make_scene(height, width, time)
    rng = np.random.default_rng(3)
    cloud = rng.random((time, height // 7 + 1, width // 7 + 1)).repeat(7, axis=1).repeat(7, axis=2)
    scene["valid"] = scene["valid"] & (cloud[:, :height, :width] < 0.8)
    gap = rng.random((time, height // 9 + 1, width // 9 + 1)).repeat(9, axis=1).repeat(9, axis=2) < 0.1
    gap = gap[:, :height, :width]
    gap[:, :33, 40:] = True
    scene["bands"] = scene["bands"].where(~xr.DataArray(gap, dims=("time", "y", "x")), 0).astype(np.uint16)
    scene["valid"] = scene["valid"] & ~gap
    return scene


@pytest.mark.parametrize("options", [{"tile": 16, "overlap": 6}, {"tile": 13, "overlap": 0}, {"seam_free": 8}])
def test_a_map_does_not_depend_on_its_blocks(side, options):
    scene, maps = patchy_scene(), []
    for pixels in (1, 32, 512):
        side(pixels)
        options = {"max_cloud": 0.5, **options}
        maps.append(predict_scene(TileMeanEngine(), scene, uncertainty=True, valid_frames=True, **options))
    blocks = [result.attrs.pop("blocks") for result in maps]
    assert blocks[0] == maps[0].attrs["tiles"]
    assert blocks[0] > blocks[1] > blocks[2] == 1
    for result in maps[:-1]:
        xr.testing.assert_identical(result, maps[-1])
    # Tiles of 16 and less lie in the corner as a whole.
    assert np.isnan(maps[0]["probability"]).values[:40, 240:].all()
    assert np.isfinite(maps[0]["probability"]).values[140:].all()


def test_tiles_are_batched_by_their_number_of_frames(monkeypatch):
    scene = patchy_scene()
    expected = predict_scene(MeanEngine(), scene, tile=16, batch=1)["probability"]
    for batch, at_once in ((5, 10**9), (None, 4 * 3 * 16 * 16)):
        engine = MeanEngine()
        monkeypatch.setattr("spinet_tf.inference.sizes._FRAME_PIXELS", at_once)
        np.testing.assert_array_equal(predict_scene(engine, scene, tile=16, batch=batch)["probability"], expected)
        sizes = [len(images) for images, _ in engine.asked]
        frames = np.concatenate([num_frames for _, num_frames in engine.asked])
        assert np.all(np.diff(frames) <= 0)
        for images, num_frames in engine.asked:
            assert images.shape[1] == max(num_frames)
            assert len(images) == 1 or images[..., 0].size <= at_once
        assert max(sizes) > 1
        assert batch is None or set(sizes[:-1]) == {batch}


def test_tiles_that_nothing_was_seen_of_are_not_shown_to_the_model():
    scene = make_scene(32, 32)
    scene["bands"][:, :, :16] = 0
    scene["valid"][:, :16] = False
    engine = MeanEngine()
    result = predict_scene(engine, scene, tile=16, overlap=0)
    assert sum(len(images) for images, _ in engine.asked) == 2
    assert result.attrs["tiles"] == 4
    assert result.attrs["frames_per_tile"] == [3, 3]
    assert np.isnan(result["probability"].values[:64]).all()
    assert np.isfinite(result["probability"].values[64:]).all()


class Read:
    """An array that remembers what was read of it."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.windows = []

    def __getitem__(self, key):
        self.windows.append(key)
        return self.values[key]


def test_a_block_reads_its_window_of_the_frames_that_its_tiles_want_and_nothing_else(side, monkeypatch):
    side(30)
    monkeypatch.setattr(tiles, "SURROUNDINGS", 14)
    scene = make_scene(60, 60, time=5)
    scene["valid"][3] = True
    scene["valid"][3, :, :30] = False  # wanted in the right half alone
    bands, valid = Read(scene["bands"].values), Read(scene["valid"].values)
    lazy = scene.assign(
        bands=(scene["bands"].dims, da.from_array(bands, chunks=(1, 12, 5, 5), name="bands", lock=True)),
        valid=(scene["valid"].dims, da.from_array(valid, chunks=(1, 5, 5), name="valid", lock=True)),
    )
    bands.windows.clear()
    valid.windows.clear()
    result = predict_scene(MeanEngine(), lazy, tile=12, overlap=2)
    assert result.attrs["blocks"] == 9
    np.testing.assert_array_equal(
        result["probability"], predict_scene(MeanEngine(), scene, tile=12, overlap=2)["probability"]
    )
    assert {window[0].start for window in bands.windows} == {0, 2, 3, 4}
    assert min(window[3].start for window in bands.windows if window[0].start == 3) >= 15
    # Blocks share the margins of their tiles, 4 pixels and what a tile's shrinking adds.
    for array in (bands, valid):
        read = sum(np.prod([part.stop - part.start for part in window]) for window in array.windows)
        assert read < 1.7 * array.values.size


def test_groups_cover_all_tiles_within_the_side():
    tiling = Tiling.spread(300, 131, 4, 32, 8)
    for side in (10, 60, 100, 1000):
        groups = group_tiles(tiling, side)
        assert [tile for group in groups for tile in group.tiles] != []
        assert sorted((t.row, t.column) for group in groups for t in group.tiles) == [
            (t.row, t.column) for t in tiling.tiles
        ]
        assert len({group.name for group in groups}) == len(groups)
        for group in groups:
            for span in (group.rows, group.columns):
                assert span.inside.stop - span.inside.start <= max(side, 32)
                assert span.shown.start <= span.inside.start
                assert span.shown.stop >= span.inside.stop
    assert len(group_tiles(tiling, 10)) == len(tiling.tiles)
    assert len(group_tiles(tiling, 1000)) == 1


def test_long_series_have_smaller_blocks():
    assert fitting_side(20, 12) == 512
    assert 2 * 146 * 12 * fitting_side(146, 12) ** 2 <= 128 << 20
    assert fitting_side(146, 12) > 190


@pytest.mark.parametrize("side", [7, 16, 100])
def test_assembled_rectangles_cover_the_map_once(side):
    tiling = Tiling.spread(50, 41, 2, 16, 5)
    parts = PartMemory()
    groups = group_tiles(tiling, 30)
    rng = np.random.default_rng(0)
    total, counts = np.zeros((100, 82), np.int64), np.full((50, 41), -1)
    for group in groups:
        y, x = group.rows.inside, group.columns.inside
        shape = (y.stop - y.start, x.stop - x.start)
        part = Part(
            rng.integers(0, 2**26, (2 * shape[0], 2 * shape[1]), np.int32),
            rng.integers(-1, 9, shape, np.int16),
            np.ones((1, 1), bool),
            checksum=0,
        )
        parts.save(group.name, part)
        total[2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop] += part.total
        counts[y, x] = np.maximum(counts[y, x], part.counts)
    covered = np.zeros((100, 82), int)
    for block in assemble(parts, groups, tiling, ["probability", "frames"], side):
        p, frames = block.layers["probability"], block.layers["frames"]
        window = np.s_[block.y : block.y + p.shape[0], block.x : block.x + p.shape[1]]
        covered[window] += 1
        seen = counts[block.y // 2 : block.y // 2 + frames.shape[0], block.x // 2 : block.x // 2 + frames.shape[1]]
        np.testing.assert_array_equal(frames, seen.clip(0))
        expected = np.where((seen < 0).repeat(2, axis=0).repeat(2, axis=1), np.nan, total[window] / 2**30)
        np.testing.assert_allclose(p, expected, rtol=1e-6)
    assert np.all(covered == 1)


def test_entropy():
    p = np.array([0, 0.5, 1, np.nan, 0.25], np.float32)
    np.testing.assert_allclose(entropy(p), [0, 1, 0, np.nan, 2 - 0.75 * np.log2(3)], rtol=1e-6)
    assert entropy(p).dtype == np.float32


# === What cannot be read ===


def broken_scene(rows):
    """Pixels of frame 0 that fail to be read."""
    scene = make_scene(60, 60)

    class Broken(Read):
        def __getitem__(self, key):
            if key[0].start == 0 and key[2].start in rows:
                raise OSError("the file is truncated")
            return super().__getitem__(key)

    bands = Broken(scene["bands"].values)
    lazy = da.from_array(
        bands, chunks=(1, 12, 10, 60), name="broken", lock=True, meta=np.zeros((0, 0, 0, 0), np.uint16)
    )
    return scene.assign(bands=(scene["bands"].dims, lazy))


def test_one_error_names_the_first_window_and_how_many_cannot_be_read(side):
    side(20)
    scene = broken_scene({30})
    with pytest.raises(SpinetError) as raised:
        predict_scene(MeanEngine(), scene, tile=16, overlap=2)
    assert re.fullmatch(
        r"Cannot read hand-made, rows 22 to 37, columns 0 to 13: the file is truncated. 10 of 25 blocks could not be "
        r"read\.",
        str(raised.value),
    )


def test_an_engine_that_fails_stops_the_rest(side):
    side(20)

    class Gone(MeanEngine):
        def predict(self, images, num_frames):
            if self.asked:
                raise ValueError("No server answers.")
            return super().predict(images, num_frames)

    engine = Gone()
    with pytest.raises(SpinetError, match=r"^No server answers\.$"):
        predict_scene(engine, make_scene(60, 60), tile=16)
    assert len(engine.asked) == 1


@pytest.mark.parametrize("answers", [np.zeros((1, 64, 64, 1)), np.full((9, 64, 64, 1), 2.0), np.zeros((9, 16, 16, 1))])
def test_answers_that_fit_no_tile_are_refused(answers):
    engine = MeanEngine()
    engine.predict = lambda images, num_frames: answers.astype(np.float32)
    with pytest.raises(SpinetError, match=r"Expected .* from the model\. Received"):
        predict_scene(engine, make_scene(40, 40), tile=16, overlap=0, batch=9)
