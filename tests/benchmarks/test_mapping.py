"""The benchmarks of maps measure what they say; what they found is in README.md beside them."""

import numpy as np
import pytest

from spinet_tf.bands import BANDS
from spinet_tf.data.simulate import synthesize
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.models import SPInet
from tests.benchmarks import mapping, memory, seams
from tests.inference.scenes import MeanEngine, TileMeanEngine, make_scene


def test_the_simulated_scene_is_lazy_and_the_same_each_time():
    scene = memory.simulated_scene(1500, 2)
    assert scene["bands"].chunks[2:] == ((1024, 476), (1024, 476))
    window = scene.isel(y=slice(1000, 1050), x=slice(3, 9))
    np.testing.assert_array_equal(window["bands"], scene["bands"].values[:, :, 1000:1050, 3:9])
    assert 0.8 < scene["valid"].values.mean() < 0.97


def test_memory_is_measured(tmp_path):
    found = memory.measure(40, 2, str(tmp_path))
    assert found.blocks == 1
    assert found.seconds > 0
    assert 1e8 < found.peak_bytes < 1e11
    assert found.file_bytes == (tmp_path / "40.tif").stat().st_size
    model = KerasEngine(memory.cheap_model())
    images = np.random.default_rng(0).integers(1, 10_000, (2, 3, 5, 4, 4), np.uint16)
    images[1, 2] = 0  # padding
    answers = model.predict(images, np.array([3, 2], np.int32))
    means = [images[0].mean(axis=(0, 3)), images[1, :2].mean(axis=(0, 3))]
    odds = np.log(answers / (1 - answers))
    np.testing.assert_allclose(odds[:, ::4, ::4, 0], np.array(means) / 10_000, rtol=1e-4)


def test_time_in_the_network_is_part_of_a_maps(tmp_path):
    model = SPInet(bands=BANDS, filters=4, tefa_blocks=1, bottleneck=2)
    found = mapping.measure(model, tmp_path, size=136, dates=2)
    assert found.computed == pytest.approx(4 * 100**2 / 136**2)
    assert 0 < found.means < found.means + found.tiles < found.total
    assert found.bare > 0
    assert (tmp_path / "second" / "map.tif").is_file()


def test_seams_are_found_where_they_are():
    scene = make_scene(40, 24)
    near = seams.near_seams(scene, MeanEngine(), {"tile": 20, "overlap": 0})
    rows = np.zeros(160, bool)
    rows[80 - 8 : 80 + 8] = True
    columns = np.zeros(96, bool)
    columns[48 - 8 : 48 + 8] = True
    np.testing.assert_array_equal(near, rows[:, None] | columns)


def test_differences_and_scores():
    whole, map_, label = np.zeros((20, 20)), np.zeros((20, 20)), np.zeros((20, 20), np.uint8)
    map_[10, 10], map_[12, 5:7], map_[0] = 0.3, 0.6, 1
    label[12, 5], label[0] = 1, 255
    near = np.zeros((20, 20), bool)
    near[:, 10] = True
    found = seams.compare(map_, whole, label, near, 4, 2.0)
    np.testing.assert_allclose(found.at_seams, [0.3, 0.3, 12])
    np.testing.assert_allclose(found.inside, [0.6, 1.2, 132])
    assert found.step == pytest.approx(0.6)
    np.testing.assert_array_equal(found.counts, [1, 1, 0, 378])
    both = seams._together(found, seams.compare(whole, whole, label, near, 4, 2.0))
    np.testing.assert_allclose(both.at_seams, [0.3, 0.3, 24])
    np.testing.assert_array_equal(both.counts, [1, 1, 1, 757])
    assert "| 2.00 | 0.300 | 0.0125 | 0.600 | 0.0045 | 0.600 | 0.499 |" in seams.table({"x": both})


def test_every_mode_is_compared(tmp_path):
    (path,) = synthesize(tmp_path, 1, 48, 4)
    compared = list(seams.modes((32,), (0, 8)))
    found = seams.run(TileMeanEngine(), [path], compared)
    assert list(found) == [
        "whole | -",
        "32 | 0",
        "32 | 8",
        "32 | 16",
        "32 | 8, own means",
        "seam-free 32 | 16",
        "32 | 8, own frames",
        "seam-free 32 | 16, own frames",
    ]
    assert found["32 | 0"].at_seams[0] > 0
    assert found["32 | 0"].computed == 1
    per_pixel = seams.run(MeanEngine(), [path], compared)
    for name in list(found)[:5]:
        assert per_pixel[name].step < 1e-6
    seams.draw(found, tmp_path / "seams.png")
    assert (tmp_path / "seams.png").stat().st_size > 10_000
