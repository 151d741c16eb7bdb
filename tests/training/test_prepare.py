"""Prepared patches are what the scenes hold, each label pixel once; and nothing half-written is ever left."""

import fcntl
import gc
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from spinet_tf.data.ai4eo import label_weights
from spinet_tf.data.patches import cut_patch, labelled
from spinet_tf.data.scene import find_scenes, open_scene
from spinet_tf.data.shards import Shards
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.errors import SpinetError
from tests.data.test_shards import parse
from tests.labelled import BANDS, labelled_scene
from training.config import load_config
from training.prepare import main, prepare
from training.split import PAPER_VALIDATION

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def write(path, **options):
    scene = labelled_scene(name=path.stem, **options)
    path.parent.mkdir(exist_ok=True)
    scene.to_netcdf(path, engine="h5netcdf")
    return scene


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """The files that were to be on the disk; none is, which a busy disk may take a second for."""
    files = []
    monkeypatch.setattr("os.fsync", lambda file: files.append(Path(f"/proc/self/fd/{file}").readlink()))
    return files


@pytest.fixture
def data(tmp_path):
    """Three scenes of 12x10 pixels, each different."""
    for number in range(3):
        write(tmp_path / "data" / f"s{number}.nc", seed=number)
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def contents(folder):
    """Every file below a folder, hidden ones too, and its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_nothing_half_written(out):
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    stems = {path.stem for path in (out / "shards").iterdir()}
    for stem in stems:
        assert {path.suffix for path in (out / "shards").glob(f"{stem}.*")} == {".tfrecord", ".npz", ".json"}


def place(name):
    """Row and column in what a patch set calls a patch."""
    row, column = name.split(" at row ")[1].split(", column ")
    return int(row), int(column)


# === what is stored ===


@pytest.mark.parametrize("weights", ["uniform", "ai4eo"])
def test_patches_are_windows_of_the_scenes(data, out, weights):
    prepare(data, out, patch=5, workers=1)
    shards = Shards(out, weights)
    assert (shards.bands, shards.scale, shards.patch) == (BANDS, 4, 5)
    for patches, names in ((shards.training, ("s0", "s1")), (shards.validation, ("s2",))):
        numbers = iter(range(len(patches)))
        for name in names:
            scene = labelled(open_scene(data / f"{name}.nc"), weights=weights)
            counted = np.zeros((48, 40), int)
            places = []
            for number in itertools.islice(numbers, 6):
                assert patches.name(number).startswith(f"{name} at row ")
                row, column = place(patches.name(number))
                places.append((row, column))
                whole = cut_patch(scene, row, column, 5, lambda clear: np.arange(len(clear)))
                clear = scene["valid"].values[:, row : row + 5, column : column + 5].mean((1, 2))
                kept = np.flatnonzero(clear)
                np.testing.assert_array_equal(patches.clear[number, : len(kept)], clear[kept])
                assert not patches.clear[number, len(kept) :].any()
                patch = patches.read(number, np.arange(len(kept)))
                np.testing.assert_array_equal(patch.images, whole.images[kept])
                # The last row of windows lies against the edge; three of its five rows are counted before.
                fine = np.s_[4 * row : 4 * row + 20, 4 * column : 4 * column + 20]
                own = np.ones((20, 20), bool)
                own[: 12 if row == 7 else 0] = False
                np.testing.assert_array_equal(patch.label[..., 0], whole.label[..., 0] * own)
                np.testing.assert_array_equal(patch.weight[..., 0], whole.weight[..., 0] * own)
                label = scene["label"].values[fine][own]
                assert patches.known[number] == np.sum(label != 255)
                assert patches.cultivated[number] == np.sum(label == 1)
                counted[fine] += own & (scene["label"].values[fine] != 255)
            assert places == [(0, 0), (0, 5), (5, 0), (5, 5), (7, 0), (7, 5)]
            np.testing.assert_array_equal(counted, scene["label"].values != 255)


def test_plain_tensorflow_finds_the_scene(data, out):
    prepare(data, out, patch=5, bands=["B08", "B02"], workers=1)
    scene = open_scene(data / "s1.nc")
    images = scene["bands"].sel(band=["B08", "B02"]).values.transpose(0, 2, 3, 1)
    weight = label_weights(scene["label"].values)
    examples = list(parse(out / "shards" / "s1.tfrecord"))
    assert [(e["row"], e["column"]) for e in examples] == [(0, 0), (0, 5), (5, 0), (5, 5), (7, 0), (7, 5)]
    for example in examples:
        rows, columns = (slice(example[key], example[key] + 5) for key in ("row", "column"))
        clear = scene["valid"].values[:, rows, columns].mean((1, 2))
        # Frame 1 is cloudy everywhere, and frame 2 in the left half.
        assert np.flatnonzero(clear).tolist() == ([0, 3] if example["column"] == 0 else [0, 2, 3])
        frames = clear > 0
        np.testing.assert_array_equal(example["images"], images[frames, rows, columns])
        np.testing.assert_array_equal(example["clear"], clear[frames].astype("float32"))
        np.testing.assert_array_equal(example["date"], scene["time"].values[frames].astype("datetime64[s]").astype(int))
        assert example["scene"] == b"s1"
        if example["row"] < 7:
            fine = np.s_[4 * rows.start : 4 * rows.stop, 4 * columns.start : 4 * columns.stop]
            np.testing.assert_array_equal(example["label"], scene["label"].values[fine].ravel())
            np.testing.assert_array_equal(example["weight"], weight[fine].ravel())


def test_statistics_are_those_of_valid_pixels_that_train(data, out):
    prepare(data, out, patch=5, workers=1)
    shards = Shards(out)
    values = []
    for name in ("s0", "s1"):
        scene = open_scene(data / f"{name}.nc")
        values.append(scene["bands"].values.transpose(0, 2, 3, 1)[scene["valid"].values] / 10000)
    np.testing.assert_allclose(shards.mean, np.concatenate(values).mean(0), rtol=1e-12)
    np.testing.assert_allclose(shards.std, np.concatenate(values).std(0), rtol=1e-12)


def test_halves(data, out):
    prepare(data, out, patch=6, split="rows", workers=1)
    shards = Shards(out)
    scene = open_scene(data / "s0.nc")
    assert [shards.training.name(n) for n in (0, 2)] == [f"s{n}-upper at row 0, column 0" for n in (0, 1)]
    # Rows are those of the whole scene.
    assert [shards.validation.name(n) for n in (0, 1)] == [f"s0-lower at row 6, column {column}" for column in (0, 4)]
    np.testing.assert_array_equal(
        shards.validation.read(1, np.array([0])).images[0], scene["bands"].values[0, :, 6:12, 4:10].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(shards.validation.read(0, np.array([0])).label[..., 0], scene["label"][24:, :24])
    upper = [open_scene(data / f"s{n}.nc").isel(y=slice(6)) for n in range(3)]
    values = [scene["bands"].values.transpose(0, 2, 3, 1)[scene["valid"].values] for scene in upper]
    np.testing.assert_allclose(shards.mean, np.concatenate(values).mean(0) / 10000, rtol=1e-12)


def test_own_weights_of_scenes_without_dates_and_with_bands_in_another_order(tmp_path, out):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        scene = labelled_scene(5, 5, scale=1, name=name).rename(y_label="y", x_label="x").drop_vars("time")
        scene["weight"] = scene["label"].dims, rng.random((5, 5), "float32")
        scene = scene.isel(band=[2, 0, 1]) if name == "b" else scene
        (tmp_path / "data").mkdir(exist_ok=True)
        scene.to_netcdf(tmp_path / "data" / f"{name}.nc", engine="h5netcdf")
    prepare(tmp_path / "data", out, patch=5, weights="scene", workers=1)
    shards = Shards(out, "scene")
    assert shards.scale == 1
    known = scene["label"].values != 255
    patch = shards.validation.read(0, np.array([0]))
    np.testing.assert_array_equal(patch.weight[..., 0], np.where(known, scene["weight"], 0))
    np.testing.assert_array_equal(patch.images[0], scene["bands"].sel(band=list(BANDS)).values[0].transpose(1, 2, 0))
    (example,) = parse(out / "shards" / "b.tfrecord")
    assert example["date"].size == 0


@pytest.mark.parametrize("layout", ["eolearn-2021", "eolearn-1.5"])
def test_real_eopatch(scene_data, out, layout):
    path = scene_data / "eopatches" / layout / "eopatch-A"
    prepare(path, out, patch=8, workers=1)
    scene = open_scene(path)
    shards = Shards(out, "ai4eo")
    assert shards.bands == tuple(scene["band"].values)
    total = np.zeros((64, 64), int)
    for patches in (shards.training, shards.validation):
        for number in range(len(patches)):
            row, column = place(patches.name(number))
            valid = scene["valid"].values[:, row : row + 8, column : column + 8].any((1, 2))
            patch = patches.read(number, np.arange(valid.sum()))
            window = scene["bands"].values[valid, :, row : row + 8, column : column + 8]
            np.testing.assert_array_equal(patch.images, window.transpose(0, 2, 3, 1))
            fine = np.s_[4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
            np.testing.assert_array_equal(patch.label[..., 0], scene["label"].values[fine] == 1)
            total[fine] += 1
    np.testing.assert_array_equal(total, 1)
    assert (shards.training.known.sum() + shards.validation.known.sum()) == np.sum(scene["label"] != 255)


def test_large_scenes_are_read_in_strips(data, out, tmp_path, monkeypatch):
    prepare(data, out, patch=5, workers=1)
    read = []
    compute = xr.Dataset.compute
    monkeypatch.setattr(xr.Dataset, "compute", lambda self, **o: read.append(self.sizes["y"]) or compute(self, **o))
    for size, strips in ((5, [5, 5, 5]), (10, [10, 5])):
        read.clear()
        monkeypatch.setattr("training.prepare_scene._STRIP", size * 10 * 4 * 3 * 2)
        prepare(data, tmp_path / f"strips-{size}", patch=5, workers=1)
        assert read == strips * 3
        assert contents(tmp_path / f"strips-{size}") == contents(out)


def test_one_scene_at_a_time_is_in_memory(tmp_path, out, monkeypatch):
    """Also where garbage is not collected, which happens too seldom to rely on."""
    for number in range(3):
        simulate_eopatch(tmp_path / "data" / f"eopatch-{number}", seed=number, size=12, dates=2)
    opened, alive = [], []

    def open_and_count(path):
        alive.append(sum(reference() is not None for reference in opened))
        scene = open_scene(path)
        opened.append(weakref.ref(scene))
        return scene

    monkeypatch.setattr("training.prepare_scene.open_scene", open_and_count)
    gc.disable()
    try:
        prepare(tmp_path / "data", out, patch=6, workers=1)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_windows_never_seen_are_left_out(data, out):
    scene = xr.load_dataset(data / "s0.nc", mask_and_scale=False, decode_coords="all")
    scene["valid"][:, :5, :5] = 0
    scene.to_netcdf(data / "s0.nc", engine="h5netcdf")
    prepare(data, out, patch=5, workers=1)
    patches = Shards(out).training
    assert [place(patches.name(number)) for number in range(5)] == [(0, 5), (5, 0), (5, 5), (7, 0), (7, 5)]


# === running it again ===


def test_what_is_finished_is_kept(data, out, capsys):
    prepare(data, out, patch=5, workers=1)
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    all_before = contents(out)
    write(data / "s1b.nc", seed=7)
    prepare(data, out, patch=5, workers=1)
    assert "Prepared 1 of 4 scenes" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(Shards(out).training) == 18
    # Another split needs no other shards.
    prepare(data, out, patch=5, validation_scenes=["s1b", "s0"], workers=1)
    assert "Prepared 0 of 4 scenes" in capsys.readouterr().out
    assert len(Shards(out).validation) == 12
    (data / "s1b.nc").unlink()
    prepare(data, out, patch=5, workers=1, overwrite=True)
    assert contents(out) == all_before


def test_a_changed_scene_is_named_and_refused(data, out, capsys):
    prepare(data, out, patch=5, workers=1)
    before, times = contents(out), {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    scene = write(data / "s1.nc", seed=9)
    with pytest.raises(SpinetError, match=r"\n  s1: changed since it was prepared\n  Pass --overwrite"):
        prepare(data, out, patch=5, workers=1)
    assert contents(out) == before
    prepare(data, out, patch=5, workers=1, overwrite=True)
    assert {path.stem for path, time in times.items() if path.stat().st_mtime_ns != time} == {"s1"}
    image = Shards(out).training.read(6, np.array([0])).images[0]
    np.testing.assert_array_equal(image, scene["bands"].values[0, :, :5, :5].transpose(1, 2, 0))


def test_a_lost_shard_is_made_again(data, out):
    prepare(data, out, patch=5, workers=1)
    before = contents(out)
    (out / "shards" / "s0.tfrecord").unlink()
    (out / "shards" / "s1.npz").write_bytes(b"short")
    # What a power cut can leave of a file.
    (out / "shards" / "s2.json").write_bytes(b"")
    (out / "manifest.json").write_bytes(b"")
    prepare(data, out, patch=5, workers=1)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 4}, r"s0, s1, s2: prepared with patch 5. Asked for: patch 4"),
        ({"bands": ["B02"]}, r"prepared with bands B02 B04 B08. Asked for: bands B02"),
        ({"split": "rows"}, "s0, s1, s2: in .*, but none of the scenes to prepare"),
    ],
)
def test_shards_of_other_settings_are_refused(data, out, options, message):
    prepare(data, out, patch=5, workers=1)
    before = contents(out)
    with pytest.raises(SpinetError, match=message):
        prepare(data, out, **{"patch": 5, "workers": 1, **options})
    assert contents(out) == before
    prepare(data, out, **{"patch": 5, "workers": 1, **options}, overwrite=True)
    assert_nothing_half_written(out)
    assert Shards(out).patch == options.get("patch", 5)


@pytest.mark.parametrize("name", ["shards/s1.json", "manifest.json"])
def test_shards_of_another_version_are_refused(data, out, name):
    prepare(data, out, patch=5, workers=1)
    before = contents(out)
    path = out / name
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(SpinetError, match=f"{path.name} has version 9 of the format. Expected 1"):
        prepare(data, out, patch=5, workers=1)
    prepare(data, out, patch=5, workers=1, overwrite=True)
    assert contents(out) == before


# === damage ===


def unknown_label(scene):
    scene["label"][:] = 255


def no_valid_frame(scene):
    scene["valid"][:] = 0


def change_nc(change):
    def damage(path):
        scene = xr.load_dataset(path, mask_and_scale=False, decode_coords="all")
        change(scene)
        scene.to_netcdf(path, engine="h5netcdf")

    return damage


def garble_values(path):
    """The values of the last variable written, which HDF5 finds by their checksum."""
    scene = xr.load_dataset(path, mask_and_scale=False, decode_coords="all")
    scene.to_netcdf(path, engine="h5netcdf", encoding={"bands": {"fletcher32": True, "chunksizes": (4, 3, 12, 10)}})
    raw = scene["bands"].values.tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(raw) + 7] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read"),
        (garble_values, "s1.nc cannot be read: .*Copy or download it again"),
        (change_nc(unknown_label), "label of unknown pixels only"),
        (change_nc(no_valid_frame), "no valid frame"),
    ],
)
def test_a_damaged_scene_does_not_stop_the_others(data, out, damage, message, tmp_path):
    prepare(data, tmp_path / "expected", patch=5, workers=1)
    whole, stat = (data / "s1.nc").read_bytes(), (data / "s1.nc").stat()
    damage(data / "s1.nc")
    with pytest.raises(SpinetError, match=rf"1 scene cannot be used.*\n  s1: .*{message}.*\n  Repair them"):
        prepare(data, out, patch=5, workers=1)
    assert {path.name for path in out.rglob("*.json")} == {"s0.json", "s2.json"}
    assert_nothing_half_written(out)
    with pytest.raises(SpinetError, match="Preparing it was not finished"):
        Shards(out)
    (data / "s1.nc").write_bytes(whole)
    os.utime(data / "s1.nc", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    prepare(data, out, patch=5, workers=1)
    assert contents(out) == contents(tmp_path / "expected")


def test_damaged_eopatches(tmp_path, out, capsys):
    for number in range(4):
        simulate_eopatch(tmp_path / "data" / f"eopatch-{number}", seed=number, size=12, dates=2)
    bands = [tmp_path / "data" / f"eopatch-{number}" / "data" / "BANDS.npy.gz" for number in range(4)]
    bands[0].unlink()
    bands[1].write_bytes(bands[1].read_bytes()[:-100])
    bands[2].write_bytes(b"")
    assert main([str(tmp_path / "data"), str(out), "--patch", "6", "--workers", "1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: 3 scenes cannot be used")
    for line, part in zip(
        lines[1:4], ("data has no BANDS", "BANDS.npy.gz is truncated", "not a readable"), strict=True
    ):
        assert part in line
    assert "eopatch-3.json" in os.listdir(out / "shards")
    assert_nothing_half_written(out)


def test_a_scene_that_turns_bad_takes_the_manifest_away(data, out):
    prepare(data, out, patch=5, workers=1)
    (data / "s1.nc").write_bytes(b"")
    with pytest.raises(SpinetError, match=r"\n  s1: "):
        prepare(data, out, patch=5, workers=1)
    assert not (out / "manifest.json").exists()


def test_half_a_scene_without_ground(data, out):
    change_nc(lambda scene: scene["valid"].__setitem__(np.s_[:, 6:], 0))(data / "s1.nc")
    with pytest.raises(SpinetError, match=r"s1: s1 \(lower half\) has no valid frame"):
        prepare(data, out, patch=5, split="rows", workers=1)


def test_ground_and_label_apart(data, out):
    def apart(scene):
        scene["valid"][:, :5] = 0
        scene["label"][20:] = 255

    change_nc(apart)(data / "s1.nc")
    with pytest.raises(SpinetError, match="no window of 5x5 pixels with both a clear pixel and a known label"):
        prepare(data, out, patch=5, workers=1)


def test_a_scene_that_changes_while_it_is_read(data, out, monkeypatch):
    prints = iter("abcdefgh")
    monkeypatch.setattr("training.prepare_scene.fingerprint", lambda path: next(prints))
    with pytest.raises(SpinetError, match="changed while it was read"):
        prepare(data, out, patch=5, workers=1)
    assert not list((out / "shards").iterdir())


def test_warnings_name_the_scene(tmp_path, out, recwarn):
    simulate_eopatch(tmp_path / "eopatch-0", seed=0, size=12, dates=2)
    (tmp_path / "eopatch-0" / "timestamps.json").unlink()
    prepare(tmp_path / "eopatch-0", out, patch=6, workers=1)
    assert "eopatch-0 is opened without dates" in str(recwarn.pop(UserWarning).message)


# === errors before any work ===


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda data: shutil.rmtree(data), {}, "There is none at"),
        (
            lambda data: write(data / "s1.nc", bands=("B02", "B03", "B08")),
            {},
            r"B02, B04, B08, as in s0. s1 has B02, B03, B08. Pass --bands B02 B08 to",
        ),
        (lambda data: write(data / "s1.nc", bands=(*BANDS, "B11")), {}, "s1 has B02, B04, B08, B11. Pass --bands B02"),
        (lambda data: write(data / "s1.nc", bands=("B03",)), {}, r"s1 has B03. $"),
        (
            lambda data: None,
            {"bands": ["B02", "B12"]},
            r"the bands B02, B12. s0 has B02, B04, B08. Pass --bands B02 to",
        ),
        (lambda data: None, {"bands": ["B02", "B02"]}, "Expected different bands. Received: B02, B02"),
        (
            lambda data: labelled_scene().drop_vars("label").to_netcdf(data / "s2.nc", engine="h5netcdf"),
            {},
            "s2 has no label",
        ),
        (lambda data: write(data / "s1.nc", scale=2), {}, "labels 4 times finer than images, as in s0. s1: 2 times"),
        (lambda data: None, {"patch": 11}, r"at most 10 pixels, the smaller side of s0 \(12x10\). Received: 11"),
        (lambda data: None, {"patch": 7, "split": "rows"}, r"at most 6 pixels, the smaller side of s0-upper \(6x10\)"),
        (lambda data: None, {"validation_scenes": ["s1", "s9"]}, "out of s0, s1, s2. Received: s9"),
        (lambda data: None, {"validation_scenes": 3}, "Expected scenes to train on beside 3"),
        (lambda data: shutil.copytree(data, data / "s1.zarr"), {}, "different names. Received: s1.nc and s1.zarr"),
    ],
)
def test_errors_before_any_work(data, out, change, options, message):
    change(data)
    with pytest.raises(SpinetError, match=message):
        prepare(data, out, **{"patch": 5, "workers": 1, **options})
    assert not out.exists()


def test_no_scene_can_be_read(tmp_path, out):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.nc").touch()
    with pytest.raises(SpinetError, match=r"(?s)a.nc cannot be read.*a.nc cannot be read|a: .*a.nc cannot be read"):
        prepare(tmp_path / "data", out, split="rows")
    assert not out.exists()


def test_output_that_is_no_folder(data, out):
    out.touch()
    with pytest.raises(SpinetError, match=r"Cannot write to .*out"):
        prepare(data, out, patch=5, workers=1)


def test_room(data, out, monkeypatch):
    # 4 frames of 12x10 pixels and 3 bands, labels and weights 4 times finer, three times.
    needed = 3 * (4 * 120 * 3 * 2 + 16 * 120 * 5)
    usage = shutil.disk_usage(data)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=needed // 4 - 1))
    with pytest.raises(SpinetError, match=r"has room for 0.0 GB. The shards take up to 0.0 GB. Choose"):
        prepare(data, out, patch=5, workers=1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.warns(UserWarning, match="less where frames are cloudy"):
        prepare(data, out, patch=5, workers=1)
    # Nothing is left to write.
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=0))
    prepare(data, out, patch=5, workers=1)


def test_small_work_is_not_worth_processes(data, out, monkeypatch):
    used = []
    monkeypatch.setattr("training.prepare.in_processes", lambda *a: used.append(a[2]) or (yield from map(a[0], a[1])))
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    most = 3 * (4 * 120 * 3 * 2 + 16 * 120 * 5)
    for worth, workers in ((most + 1, 1), (most, 2), (1, 7)):
        monkeypatch.setattr("training.prepare._WORTH_A_PROCESS", worth)
        shutil.rmtree(out, ignore_errors=True)
        prepare(data, out, patch=5)
        assert used.pop() == workers
    prepare(data, tmp := out / "rows", patch=5, split="rows", workers=3)
    assert used == [3]
    assert tmp.is_dir()


def test_a_full_disk_stops_the_work(data, out, capsys):
    """Files may grow no larger than the first shard is."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limit[1]))
    try:
        assert main([str(data), str(out), "--patch", "5", "--workers", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "error: Cannot write to" in capsys.readouterr().err
    assert not list((out / "shards").iterdir())


def test_files_outlast_a_power_cut(data, out, synced):
    """Each is on the disk before it gets its name."""
    prepare(data, out, patch=5, workers=1)
    assert [path.name for path in synced[:3]] == ["s0.npz", "s0.tfrecord", "s0.json"]
    assert len(synced) == 10
    assert synced[-1].name == "manifest.json"
    assert not any(path.exists() for path in synced)


def test_two_at_a_time(data, out):
    prepare(data, out, patch=5, workers=1)
    before = contents(out)
    folder = os.open(out / "shards", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(SpinetError, match=r"Another training.prepare writes to"):
        prepare(data, out, patch=4, workers=1, overwrite=True)
    assert contents(out) == before
    os.close(folder)
    prepare(data, out, patch=4, workers=1, overwrite=True)


# === check ===


def check(data, out):
    return main([str(data), str(out), "--check"])


def test_check(data, out, capsys):
    prepare(data, out, patch=5, workers=1)
    assert check(data, out) == 0
    assert f"All 9 files in {out / 'shards'} are as they were written" in capsys.readouterr().out
    for name in ("s0.tfrecord", "s1.npz", "s2.json"):
        path = out / "shards" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    (out / "shards" / "s2.npz").unlink()
    write(data / "s1.nc", seed=9)
    (data / "s2.nc").unlink()
    assert check(data, out) == 1
    damaged, changed = capsys.readouterr().err.splitlines()
    names = [Path(part).name for part in damaged.split(". ")[0].removeprefix("error: Damaged or missing: ").split(", ")]
    assert names == ["s0.tfrecord", "s1.npz", "s2.npz", "s2.json"]
    assert "changed since they were prepared: s1, s2." in changed


def test_check_of_what_is_unfinished(data, out, capsys):
    assert check(data, out) == 1
    assert "There is no" in capsys.readouterr().err


# === the command ===


def test_flags_win_over_the_configuration(data, out, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("patch: 5\nbands: [B08]\nvalidation_scenes: [s0]\n")
    assert main([str(data), str(out / "a"), "--config", str(config), "--workers", "1"]) == 0
    shards = Shards(out / "a")
    assert (shards.patch, shards.bands, shards.validation.name(0)) == (5, ("B08",), "s0 at row 0, column 0")
    flags = ["--patch", "6", "--bands", "B04", "B02", "--validation", "s1", "s2", "--workers", "1"]
    assert main([str(data), str(out / "b"), "--config", str(config), *flags]) == 0
    shards = Shards(out / "b")
    assert (shards.patch, shards.bands, len(shards.training)) == (6, ("B04", "B02"), 4)
    assert main([str(data), str(out / "c"), "--config", str(config), "--validation", "2", "--workers", "1"]) == 0
    assert Shards(out / "c").validation.name(0).startswith("s1")
    output = capsys.readouterr().out
    assert f"Wrote {out / 'a' / 'manifest.json'}" in output
    share = np.mean([(s := open_scene(data / f"s{n}.nc")["label"].values)[s != 255].mean() for n in (1, 2)])
    assert f"training    12 patches of 5x5 pixels, {share:.1%} cultivated, 30 frames, 2.5 in a patch" in output


def test_weights_of_the_configuration(data, out, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("patch: 5\nweights: scene\n")
    assert main([str(data), str(out), "--config", str(tmp_path / "config.yaml"), "--workers", "1"]) == 1
    assert "scenes with a variable `weight`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--patch", "0"], ["--workers", "x"], ["--validation", "0"], ["--weights", "uniform"]]
)
def test_flags_out_of_range(data, out, flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(data), str(out), *flags])
    assert flags[0] in capsys.readouterr().err


def test_the_papers_validation_scenes_are_the_default(tmp_path, out):
    names = [*PAPER_VALIDATION, "eopatch-999"]
    for name in names:
        write(tmp_path / "data" / f"{name}.nc")
    prepare(tmp_path / "data", out, patch=5, workers=1)
    roles = {scene["name"]: scene["role"] for scene in json.loads((out / "manifest.json").read_text())["scenes"]}
    assert roles == {name: "validation" if name in PAPER_VALIDATION else "training" for name in names}
    configs = [load_config(CONFIGS / name).validation_scenes for name in ("demo.yaml", "ai4eo.yaml", "preset.yaml")]
    assert PAPER_VALIDATION in configs
    for path in find_scenes(tmp_path / "data")[:1]:
        path.unlink()
    prepare(tmp_path / "data", out, patch=5, workers=1, overwrite=True)
    assert len(Shards(out).validation) == 6


# === interruptions ===

# Prepares as the command does, but for what happens to processes when the second patch of scene s1 is due.
PROGRAM = """
import itertools, os, signal, sys, time
from training import prepare, prepare_scene

write = prepare_scene.write_shard

def interrupted(patches):
    for number, patch in enumerate(patches):
        if number == 1 and patch.scene == "s1":
            {event}
        yield patch

prepare_scene.write_shard = lambda shard, index, patches: write(shard, index, interrupted(patches))
if __name__ == "__main__":
    # A shell that runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(prepare.main())
"""


@pytest.fixture
def interrupted(data, out, tmp_path):
    """Runs the command, with something happening to it; returns the process when it and its workers have ended."""

    def run(event, workers):
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(event=event))
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, program, data, out, "--patch", "5", "--workers", str(workers)],
            env={**os.environ, "KERAS_BACKEND": "numpy", "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            # The pipes are closed when the last process has ended.
            timeout=120,
            check=False,
            start_new_session=True,
        )

    return run


def assert_continues(data, out, tmp_path):
    """The same command again gives what one without interruption does."""
    prepare(data, out, patch=5, workers=1)
    prepare(data, tmp_path / "whole", patch=5, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed(interrupted, data, out, tmp_path):
    run = interrupted("os.kill(os.getpid(), signal.SIGKILL)", workers=1)
    assert run.returncode == -signal.SIGKILL
    shards = {path.name for path in (out / "shards").iterdir() if not path.name.startswith(".")}
    assert shards == {"s0.json", "s0.npz", "s0.tfrecord"}
    assert list((out / "shards").glob(".s1.*"))
    assert_continues(data, out, tmp_path)
    assert_nothing_half_written(out)


@pytest.mark.slow
def test_workers_end_when_the_command_is_killed(interrupted, data, out, tmp_path):
    run = interrupted("os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)", workers=2)
    assert run.returncode == -signal.SIGKILL
    assert "s1.json" not in os.listdir(out / "shards")
    assert_continues(data, out, tmp_path)


@pytest.mark.slow
def test_a_worker_is_killed(interrupted, data, out, tmp_path):
    run = interrupted("os.kill(os.getpid(), signal.SIGKILL)", workers=2)
    assert run.returncode == 1
    assert "\nerror: A worker process was killed, perhaps because memory ran out. Run the same" in run.stderr
    # The others are ended with it, wherever they are: between the two files of a scene too, as a record will not say.
    assert not list((out / "shards").glob(".*"))
    assert "s1.json" not in os.listdir(out / "shards")
    assert_continues(data, out, tmp_path)
    assert_nothing_half_written(out)


@pytest.mark.slow
def test_ctrl_c(interrupted, data, out, tmp_path):
    """As a terminal sends it, to the command and its workers."""
    blocked = "print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)"
    run = interrupted(f"{blocked}; os.killpg(0, signal.SIGINT); time.sleep(600)", workers=2)
    # Workers leave it to the command, or each would print a traceback.
    assert run.stdout.splitlines()[-1] == "True"
    assert run.returncode == 130
    assert run.stderr.splitlines()[-1] == "interrupted"
    assert "scenes were finished and are kept" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (out / "manifest.json").exists()
    assert_nothing_half_written(out)
    assert_continues(data, out, tmp_path)
