"""Whatever ends a run, the same call goes on from the blocks that were finished."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from spinet_tf.errors import SpinetError
from spinet_tf.inference import groups, predict_scene, results
from spinet_tf.inference.geotiff import write_cogs
from tests.inference.scenes import MeanEngine, make_scene

OPTIONS = {"tile": 16, "overlap": 4, "uncertainty": True, "valid_frames": True, "threshold": 0.5}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(groups, "SIDE", 20)


@pytest.fixture(scope="module")
def scene():
    return make_scene(40, 40)


@pytest.fixture(scope="module")
def expected(scene, tmp_path_factory):
    """The files of an undisturbed run."""
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SIDE", 20)
        result = predict_scene(MeanEngine(), scene, folder / "map.tif", **OPTIONS)
    assert result.attrs["blocks"] == 16
    return contents(folder)


def contents(folder):
    """All files but those of the parts."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def parts(folder):
    return sorted(path.name for path in (folder / ".map.tif.parts").glob("*.h5"))


class Failing(MeanEngine):
    """Raises an error once it was asked that often; the question that the plan asks does not count."""

    def __init__(self, number, error):
        super().__init__()
        self.number, self.error = number, error

    def predict(self, images, num_frames):
        if len(self.asked) == self.number + 1:
            raise self.error
        return super().predict(images, num_frames)


def test_what_killed_runs_left_is_removed(scene, tmp_path):
    names = [".map.tif.abcdefgh", ".map_class.tif.1234567_", ".other.tif.abcdefgh", ".map.tif.bak"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.tif").write_bytes(b"half")
    predict_scene(MeanEngine(), scene, tmp_path / "map.tif", tile=16, threshold=0.5)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"map.tif", "map_class.tif", *names[2:]}


def test_files_hold_what_the_map_in_memory_does(scene, expected, tmp_path):
    result = predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
    in_memory = predict_scene(MeanEngine(), scene, **OPTIONS)
    assert set(result.data_vars) == {"probability", "uncertainty", "class", "valid_frames"}
    for name in in_memory.data_vars:
        np.testing.assert_array_equal(result[name], in_memory[name])
        assert result[name].dtype == in_memory[name].dtype
        assert result[name].attrs["long_name"] == in_memory[name].attrs["long_name"]
    np.testing.assert_array_equal(in_memory["class"], in_memory["probability"] > 0.5)
    assert result["y"].identical(in_memory["y"])
    assert result.rio.transform() == in_memory.rio.transform()
    np.testing.assert_array_equal(result["x_scene"], scene["x"])
    names = ["map.tif", "map_uncertainty.tif", "map_frames.tif", "map_class.tif"]
    assert [Path(path).name for path in result.attrs["files"]] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert contents(tmp_path) == expected
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["SCENE"] == "hand-made"
        assert file.tags()["DATES"] == "2019-03-01 2019-03-21 2019-03-31"


def test_a_map_of_bytes_is_read_as_probability(scene, tmp_path):
    result = predict_scene(MeanEngine(), scene, tmp_path / "map.tif", dtype="uint8")
    in_memory = predict_scene(MeanEngine(), scene)
    np.testing.assert_allclose(result["probability"], in_memory["probability"], rtol=0, atol=0.5001 / 254)
    assert result["probability"].dtype == np.float32


def test_an_interrupted_run_goes_on(scene, expected, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(Failing(7, KeyboardInterrupt()), scene, tmp_path / "map.tif", **OPTIONS)
    assert contents(tmp_path) == {}
    assert len(parts(tmp_path)) == 7
    engine = MeanEngine()
    result = predict_scene(engine, scene, tmp_path / "map.tif", **OPTIONS)
    assert result.attrs["resumed"] == 7
    assert len(engine.asked) == 9 + 1  # for the plan, as nothing is known of such an engine
    assert contents(tmp_path) == expected
    assert not (tmp_path / ".map.tif.parts").exists()


def test_another_model_scene_or_option_begins_anew_and_says_so(scene, expected, tmp_path):
    output = tmp_path / "map.tif"

    def begin(number=3, engine=None, scene=scene, **changed):
        engine = engine or Failing(number, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            predict_scene(engine, scene, output, **{**OPTIONS, **changed})
        return len(parts(tmp_path))

    assert begin() == 3
    other = make_scene(40, 40)
    other["bands"][0, 0, 0, 0] += 1
    cloudier = make_scene(40, 40)
    cloudier["valid"][0, 0, 0] = False
    for changes, word in (
        ({"max_cloud": 0.5}, "options"),
        ({"max_cloud": 0.5, "seam_free": 8}, "options"),
        ({"scene": other}, "options"),
        ({"scene": scene}, "scene"),
        ({"scene": cloudier}, "scene"),
        ({"scene": other}, "scene"),
        ({"scene": other.assign_coords(x=other["x"] + 10)}, "scene"),
        ({"scene": other.isel(time=slice(3))}, "scene"),
    ):
        with pytest.warns(UserWarning, match=f"map.tif was begun with another {word}; it is begun anew"):
            assert begin(**changes) == 3

    class Brighter(Failing):
        def predict(self, images, num_frames):
            return np.minimum(super().predict(images, num_frames) * 1.01, 1)

    with pytest.warns(UserWarning, match="another model and other scene"):
        assert begin(engine=Brighter(2, KeyboardInterrupt())) == 2
    with pytest.warns(UserWarning, match="another model"):
        predict_scene(MeanEngine(), scene, output, **OPTIONS)
    assert contents(tmp_path) == expected


def test_other_blocks_are_begun_anew(scene, expected, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(Failing(7, KeyboardInterrupt()), scene, tmp_path / "map.tif", **OPTIONS)
    monkeypatch.setattr(groups, "SIDE", 36)
    with pytest.warns(UserWarning, match="another options"):
        predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
    assert contents(tmp_path) == expected


def test_parts_without_a_plan_are_not_trusted(scene, expected, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(Failing(7, KeyboardInterrupt()), scene, tmp_path / "map.tif", **{**OPTIONS, "overlap": 5})
    (tmp_path / ".map.tif.parts" / "plan.json").write_text("{")
    result = predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
    assert result.attrs["resumed"] == 0
    assert contents(tmp_path) == expected


def test_layers_may_change_between_runs(scene, expected, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(Failing(7, KeyboardInterrupt()), scene, tmp_path / "map.tif", tile=16, overlap=4)
    result = predict_scene(MeanEngine(), scene, tmp_path / "map.tif", batch=3, **OPTIONS)
    assert result.attrs["resumed"] == 7
    assert contents(tmp_path) == expected


def test_only_blocks_that_could_not_be_read_are_tried_again(scene, expected, tmp_path):
    from tests.inference.test_blocks import broken_scene

    broken = broken_scene({30})
    mended = broken_scene(set())
    with pytest.raises(SpinetError, match=r"^Cannot read hand-made, rows.*10 of 25.*The other 15 are kept: the same"):
        predict_scene(MeanEngine(), broken, tmp_path / "map.tif", **OPTIONS)
    assert contents(tmp_path) == {}
    assert len(parts(tmp_path)) == 15
    engine = MeanEngine()
    assert predict_scene(engine, mended, tmp_path / "map.tif", **OPTIONS).attrs["resumed"] == 15
    assert len(engine.asked) == 10 + 1


def test_a_full_disk_is_one_error_and_finished_blocks_stay(scene, expected, tmp_path):
    engine = MeanEngine()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Disk(MeanEngine):
        def predict(self, images, num_frames):
            if len(self.asked) == 5:  # one for the plan
                resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
            return super().predict(images, num_frames)

    try:
        with pytest.raises(SpinetError, match=r"Cannot write .*\.h5: .*Make room.*goes on from"):
            predict_scene(Disk(), scene, tmp_path / "map.tif", **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == {}
    assert len(parts(tmp_path)) == 4
    assert predict_scene(engine, scene, tmp_path / "map.tif", **OPTIONS).attrs["resumed"] == 4
    assert contents(tmp_path) == expected


def test_a_disk_that_is_full_when_the_map_is_written_costs_no_block(scene, expected, tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(*args, **kwargs):
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard))
        return write_cogs(*args, **kwargs)

    monkeypatch.setattr(results, "write_cogs", on_a_full_disk)
    try:
        with pytest.raises(SpinetError, match="Cannot write"):
            predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == {}
    monkeypatch.setattr(results, "write_cogs", write_cogs)
    assert predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS).attrs["resumed"] == 16
    assert contents(tmp_path) == expected


def test_a_damaged_part_is_made_again(scene, expected, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_scene(Failing(7, KeyboardInterrupt()), scene, tmp_path / "map.tif", **OPTIONS)
    path = tmp_path / ".map.tif.parts" / parts(tmp_path)[2]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SpinetError, match=r"was damaged.*It is removed; run the same command again"):
        predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
    assert predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS).attrs["resumed"] == 15
    assert contents(tmp_path) == expected


def test_an_output_that_exists_is_kept_unless_overwritten(scene, expected, tmp_path):
    engine = MeanEngine()
    (tmp_path / "map_class.tif").write_text("mine")
    with pytest.raises(SpinetError, match=r"map_class\.tif exists already\. Choose another output or pass --overwrite"):
        predict_scene(engine, scene, tmp_path / "map.tif", **OPTIONS)
    assert contents(tmp_path) == {"map_class.tif": b"mine"}
    assert engine.asked == []
    predict_scene(engine, scene, tmp_path / "map.tif", overwrite=True, **OPTIONS)
    assert contents(tmp_path) == expected


def test_two_processes_do_not_make_one_map(scene, expected, tmp_path):
    messages = []

    class Asking(MeanEngine):
        def predict(self, images, num_frames):
            if len(self.asked) == 2:
                with pytest.raises(SpinetError) as raised:
                    predict_scene(MeanEngine(), scene, tmp_path / "map.tif", **OPTIONS)
                messages.append(str(raised.value))
            return super().predict(images, num_frames)

    predict_scene(Asking(), scene, tmp_path / "map.tif", **OPTIONS)
    (message,) = messages
    assert message.startswith("Another process is writing")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.tags()["MODEL"] == "Asking"


def test_a_folder_that_cannot_be_written_is_refused(scene, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpinetError, match=r"Cannot write .*Choose a writable folder"):
        predict_scene(MeanEngine(), scene, tmp_path / "file" / "map.tif")


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_goes_on(expected, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "tests.inference.killed", str(tmp_path / "map.tif")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    ends = [line.split() for line in run.stdout.splitlines()]
    assert [int(signal) for *_, signal, _ in ends[:-1]] == [9] * (len(ends) - 1)
    counts = [int(count) for *_, count in ends[:-1]]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 16
    assert ends[-1] == ["nothing", "0", "0"]
    assert contents(tmp_path) == expected
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and "parts" in path.name] == []
