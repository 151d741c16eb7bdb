"""What trains and what validates share no pixel."""

from pathlib import Path

import numpy as np
import pytest

from spinet_tf.data.scene import find_scenes, open_scene
from spinet_tf.errors import SpinetError
from training.split import PAPER_VALIDATION, Part, Split, default_validation, split_scenes


def names(split):
    return [[part.path.stem for part in parts] for parts in split]


def test_by_scenes(scenes):
    paths = find_scenes(scenes)
    assert names(split_scenes(paths)) == [["eopatch-0", "eopatch-1"], ["eopatch-2"]]
    assert names(split_scenes(paths, "scenes", 2)) == [["eopatch-0"], ["eopatch-1", "eopatch-2"]]
    assert names(split_scenes(paths, "auto", ["eopatch-1"])) == [["eopatch-0", "eopatch-2"], ["eopatch-1"]]
    assert str(split_scenes(paths)) == "2 scenes train, eopatch-2 validates"
    assert str(split_scenes(paths, "scenes", 2)) == "1 scene trains, eopatch-1, eopatch-2 validate"


def test_by_rows_where_there_is_one_scene(scenes):
    (path, *others) = find_scenes(scenes)
    assert split_scenes([path]) == Split([Part(path, "upper")], [Part(path, "lower")])
    assert str(split_scenes([path])) == "the upper half of 1 scene trains, the lower half validates"
    assert [part.half for part in split_scenes([path, *others], "rows").validation] == ["lower"] * 3


@pytest.mark.parametrize("rows", [16, 15])
def test_halves_make_up_the_scene(scenes, rows, monkeypatch):
    whole = open_scene(scenes / "eopatch-0").isel(y=slice(rows), y_label=slice(4 * rows))
    monkeypatch.setattr("training.split.open_scene", lambda path: whole)
    upper, lower = (Part(scenes / "eopatch-0", half)() for half in ("upper", "lower"))
    assert (upper.sizes["y"], upper.sizes["y_label"]) == (rows // 2, 4 * (rows // 2))
    for name, axis in (("bands", "y"), ("valid", "y"), ("label", "y_label")):
        both = np.concatenate([upper[name], lower[name]], axis=upper[name].get_axis_num(axis))
        np.testing.assert_array_equal(both, whole[name])
    assert lower.rio.crs == whole.rio.crs
    assert lower.rio.bounds()[1] == whole.rio.bounds()[1]
    assert lower.rio.bounds()[3] == upper.rio.bounds()[1]
    assert (upper.attrs["name"], lower.attrs["name"]) == ("eopatch-0 (upper half)", "eopatch-0 (lower half)")


def test_halves_of_a_label_on_the_images_own_grid(scenes, monkeypatch):
    whole = open_scene(scenes / "eopatch-0")
    whole = whole.drop_vars("label").assign(label=(("y", "x"), np.ones((16, 18), "uint8")))
    monkeypatch.setattr("training.split.open_scene", lambda path: whole)
    assert Part(scenes / "eopatch-0", "lower")()["label"].shape == (8, 18)


def test_names(tmp_path):
    """Those that open scenes have: a point in the name of a folder is part of it."""
    for name in ("eopatch.v2", "eopatch.v3"):
        (tmp_path / name).mkdir()
    paths = [tmp_path / "eopatch.v2", tmp_path / "eopatch.v3", Path("scene.b.nc"), Path("cube.zarr")]
    assert [Part(path).scene for path in paths] == ["eopatch.v2", "eopatch.v3", "scene.b", "cube"]
    assert [Part(paths[2], half).name for half in (None, "upper", "lower")] == [
        "scene.b",
        "scene.b-upper",
        "scene.b-lower",
    ]
    assert split_scenes(paths, "scenes", ["eopatch.v2"]).validation == [Part(paths[0])]
    with pytest.raises(SpinetError, match=r"different names. Received: cube.nc and cube.zarr. Rename one"):
        split_scenes([Path("cube.nc"), *paths], "rows")


def test_the_papers_scenes_validate_where_they_are(tmp_path):
    paths = [tmp_path / name for name in (*PAPER_VALIDATION, "eopatch-1")]
    assert default_validation(paths) == PAPER_VALIDATION
    assert default_validation(paths[1:]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("scenes", ["eopatch-7", "eopatch-1"]), "out of eopatch-0, eopatch-1, eopatch-2. Received: eopatch-7"),
        (("scenes", 3), "Received: 3 scenes. Add scenes, lower validation_scenes, or split by rows"),
        (("scenes", 9), "beside 3 to validate on"),
    ],
)
def test_errors(scenes, options, message):
    with pytest.raises(SpinetError, match=message):
        split_scenes(find_scenes(scenes), *options)
