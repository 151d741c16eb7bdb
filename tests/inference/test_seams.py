"""Where the network looks at the whole of its input, tiles leave seams, and windows at fixed places leave none."""

import numpy as np
import pytest
from affine import Affine

from spinet_tf.inference import groups, predict_scene
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.recipe import make_tiling
from tests.inference.scenes import TRANSFORM, TileMeanEngine, make_scene


@pytest.fixture(scope="module")
def scene():
    """Dark in the west, bright in the east, and cloudy in other frames here and there."""
    scene = make_scene(80, 96, time=3)
    scene["bands"][:] = (np.linspace(500, 9000, 96)[None, None, None] + 0 * scene["bands"].values).astype(np.uint16)
    scene["bands"][2] += 300
    scene["valid"][:] = True
    scene["valid"][2, :40, 30:60] = False
    return scene


def seam_free(scene, **options):
    return predict_scene(TileMeanEngine(), scene, seam_free=16, **options)["probability"]


def test_tiles_leave_seams_and_fixed_windows_none(scene):
    def largest_step(probability):
        return np.abs(np.diff(probability.values, axis=1)).max()

    tiled = predict_scene(TileMeanEngine(), scene, tile=16, overlap=0)["probability"]
    assert largest_step(tiled) > 0.05
    assert largest_step(seam_free(scene)) < 0.02


@pytest.mark.parametrize("options", [{"tile": 20}, {"tile": 48, "overlap": 4}, {"batch": 3}, {"batch": 1}])
def test_no_option_of_tiles_changes_it(scene, options):
    np.testing.assert_array_equal(seam_free(scene, **options), seam_free(scene))


@pytest.mark.parametrize(
    ("y", "x", "side"), [((13, 70), (21, 90), 512), ((0, 61), (9, 96), 20), ((22, 75), (0, 50), 37)]
)
def test_a_part_of_the_area_has_the_same_map(scene, monkeypatch, y, x, side):
    whole = seam_free(scene)
    monkeypatch.setattr(groups, "SIDE", side)
    part = seam_free(scene.isel(y=slice(*y), x=slice(*x)))
    expected = whole.isel(y=kept(*y, 80), x=kept(*x, 96))
    assert expected.size > 10_000
    np.testing.assert_allclose(part.sel(y=expected["y"], x=expected["x"]), expected, rtol=0, atol=1e-8)


def kept(low, high, size):
    """Fine pixels all of whose windows lie within an area, or end where the whole scene does."""
    return slice(4 * (low + 16 * (low > 0)), 4 * (high - 16 * (high < size)))


def test_windows_are_fixed_to_the_grid_of_the_crs():
    tiling = make_tiling(Grid.of_scene(make_scene(40, 40)), 4, 64, None, seam_free=True)
    assert tiling.rows.size == 32
    for start in tiling.columns.starts:
        assert round(TRANSFORM.c / 10 + start) % 16 == 0
    for start in tiling.rows.starts:
        assert round(TRANSFORM.f / -10 + start) % 16 == 0
    # Without a place in the world, they begin with the scene.
    tiling = make_tiling(Grid.of_scene(make_scene(40, 40, georeferenced=False)), 4, 64, None, seam_free=8)
    assert tiling.rows.starts == tuple(range(-4, 40, 4))


@pytest.mark.parametrize("shift", [0, 5, 2.5, 10 / 3])
@pytest.mark.parametrize("error", [0, 1e-7, -1e-7])
def test_rounding_errors_move_no_window(shift, error):
    for column in (0, 7, 50_003, 66_667):
        transform = Affine(10, 0, 10 * column + shift + error, 0, -10, 5_100_000 - shift - error)
        tiling = make_tiling(Grid(40, 40, transform, None), 4, 64, None, seam_free=8)
        assert {(column + start) % 4 for start in tiling.columns.starts} == {0}
        assert {(-510_000 + start) % 4 for start in tiling.rows.starts} == {0}
