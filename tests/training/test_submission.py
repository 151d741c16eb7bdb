"""The zip holds what the challenge asks for, and nothing else is ever written or called valid."""

import gzip
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.io import MemoryFile

import spinet_tf
from spinet_tf.data import open_scene
from spinet_tf.data.simulate import simulate_eopatch
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine
from training import submission
from training.config import Config, save_config
from training.submission import check_submission, main, scene_bounds

NAMES = ("eopatch-01", "eopatch-02")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A challenge of two scenes of 8x8 pixels."""
    monkeypatch.setattr(submission, "SCENES", NAMES)
    monkeypatch.setattr(submission, "SIDE", 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two test scenes without labels, the second with a corner that no frame holds data for, and a model."""
    folder = tmp_path_factory.mktemp("test")
    for number, name in enumerate(NAMES):
        simulate_eopatch(folder / "data" / name, seed=[9, number], size=8, dates=4)
        shutil.rmtree(folder / "data" / name / "mask_timeless")
    file = folder / "data" / NAMES[1] / "data" / "BANDS.npy.gz"
    with gzip.open(file) as stream:
        bands = np.load(stream)
    bands[:, :2, :3] = 0
    with gzip.open(file, "wb") as stream:
        np.save(stream, bands)
    keras.utils.set_random_seed(3)
    model = spinet_tf.SPInet(
        ("B02", "B04", "B08"), filters=8, tefa_blocks=1, bottleneck=2, mean=[0.1] * 3, std=[0.1] * 3
    )
    model.save(folder / "best.keras")
    save_config(Config(max_cloud=0.6), folder / "config.yaml")
    return folder


def command(made, data, output, *more):
    arguments = ["--model", made / "best.keras", "--data", data, "-o", output, *more]
    return main([str(argument) for argument in arguments])


def test_the_challenges_own_numbers(monkeypatch):
    monkeypatch.undo()
    assert submission.SCENES[:2] == ("eopatch-01", "eopatch-02")
    assert (len(submission.SCENES), submission.SCENES[-1]) == (25, "eopatch-25")
    assert (submission.SIDE, submission.CRS) == (2000, "EPSG:32633")


@pytest.mark.slow
def test_the_zip_holds_the_maps(made, tmp_path, capsys):
    model = KerasEngine(keras.models.load_model(made / "best.keras"))
    predicted = {
        name: spinet_tf.predict_scene(model, open_scene(made / "data" / name), max_cloud=0.6)["probability"].values
        for name in NAMES
    }
    # Where half of the pixels lie above, so that a map says something.
    threshold = float(np.nanmedian(predicted[NAMES[0]]).round(4))
    output = tmp_path / "made" / "submission.zip"
    assert command(made, made / "data", output, "--threshold", threshold) == 0
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["eopatch-01.tif", "eopatch-02.tif"]
        for name in NAMES:
            with MemoryFile(archive.read(f"{name}.tif")) as file, file.open() as image:
                assert (image.count, image.shape, image.dtypes, image.nodata) == (1, (32, 32), ("uint8",), None)
                assert image.crs.to_epsg() == 32633
                corners = json.loads((made / "data" / name / "bbox.geojson").read_text())["coordinates"][0]
                (left, bottom), (right, top) = np.min(corners, axis=0), np.max(corners, axis=0)
                np.testing.assert_allclose(image.bounds, (left, bottom, right, top), rtol=0, atol=1e-6)
                with np.errstate(invalid="ignore"):
                    np.testing.assert_array_equal(image.read(1), predicted[name] > np.float32(threshold))
                assert name == NAMES[1] or 0.4 < image.read(1).mean() < 0.6
    out = capsys.readouterr().out
    # 2 x 3 pixels of 10 m, each 4 x 4 of 2.5 m.
    assert "eopatch-02: 96 pixels that no frame holds data for are 0, not cultivated" in out
    assert "eopatch-01:" not in out
    assert f"Wrote {output}: 2 maps" in out

    before = output.read_bytes()
    assert command(made, made / "data", output) == 1
    assert "exists already" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert main(["--check", str(output)]) == 0
    assert "is valid: 2 maps, whose places were not compared" in capsys.readouterr().out
    assert main(["--check", str(output), "--data", str(made / "data")]) == 0
    assert "at the places of their scenes" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*is opened without georeference")
def test_scenes_that_are_refused_before_anything_is_mapped(made, tmp_path, capsys, monkeypatch):
    def nothing(*_, **__):
        raise AssertionError("mapped")

    monkeypatch.setattr(submission, "predict_scene", nothing)

    def error_of(change, *more):
        data = tmp_path / "data"
        shutil.copytree(made / "data", data)
        change(data)
        assert command(made, data, tmp_path / "submission.zip", *more) == 1
        assert not (tmp_path / "submission.zip").exists()
        shutil.rmtree(data)
        return capsys.readouterr().err.splitlines()[-1]

    def no_box(data):
        (data / NAMES[0] / "bbox.geojson").unlink()

    def other_crs(data):
        box = data / NAMES[1] / "bbox.geojson"
        box.write_text(box.read_text().replace("32633", "32634"))

    def other_names(data):
        (data / NAMES[1]).rename(data / "eopatch-902")

    def one_more(data):
        shutil.copytree(data / NAMES[0], data / "eopatch-03")

    def larger(data):
        simulate_eopatch(data / NAMES[1], seed=1, size=(8, 9), dates=2, overwrite=True)

    def no_band(data):
        scene = open_scene(data / NAMES[1]).isel(band=slice(3))
        shutil.rmtree(data / NAMES[1])
        scene.to_netcdf(data / f"{NAMES[1]}.nc", engine="h5netcdf")

    def cloudy(data):
        file = data / NAMES[0] / "mask" / "CLM.npy.gz"
        with gzip.open(file) as stream:
            clouds = np.load(stream)
        with gzip.open(file, "wb") as stream:
            np.save(stream, np.ones_like(clouds))

    def nothing_there(data):
        for name in NAMES:
            shutil.rmtree(data / name)

    assert "There is none at" in error_of(nothing_there)
    assert error_of(other_names).endswith(
        "eopatch-01 to eopatch-02 and nothing else. Received 2, missing: eopatch-02; unexpected: eopatch-902."
    )
    assert "Received 3, unexpected: eopatch-03." in error_of(one_more)
    assert "maps have 32x32 pixels. eopatch-02: 8x9, which the model makes 4 times finer" in error_of(larger)
    assert "eopatch-01 has no georeference. Expected a bounding box in EPSG:32633" in error_of(no_box)
    assert "Expected scenes in EPSG:32633. eopatch-02: EPSG:32634" in error_of(other_crs)
    assert "eopatch-01 has no valid frame" in error_of(cloudy)
    assert "eopatch-02 lacks B04, B08" in error_of(no_band)
    assert "Expected a threshold between 0 and 1" in error_of(lambda data: None, "--threshold", 1)
    assert "between 0 and 1" in error_of(lambda data: None, "--threshold", "nan")


# What a map is made of; each test changes one thing.
PROFILE = {
    "driver": "GTiff",
    "height": 32,
    "width": 32,
    "count": 1,
    "dtype": "uint8",
    "crs": "EPSG:32633",
    "transform": rasterio.Affine(2.5, 0, 500000, 0, -2.5, 5100000),
}


def tif(values=None, **changed):
    profile = {name: value for name, value in (PROFILE | changed).items() if value is not None}
    values = np.indices((profile["height"], profile["width"])).sum(axis=0) % 2 if values is None else values
    with MemoryFile() as file:
        with file.open(**profile) as image:
            for band in range(profile["count"]):
                image.write(values.astype(profile["dtype"]), band + 1)
        return file.read()


def zipped(path, **maps):
    files = {f"{name}.tif": tif() for name in NAMES} | {
        name.replace("_", "-") + ".tif": data for name, data in maps.items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_a_valid_zip_of_another_making(tmp_path):
    check_submission(zipped(tmp_path / "s.zip"))
    check_submission(zipped(tmp_path / "s.zip", eopatch_01=tif(dtype="float32", compress="lzw")))
    # The CRS counts, not how it is written.
    check_submission(zipped(tmp_path / "s.zip", eopatch_01=tif(crs=rasterio.CRS.from_epsg(32633).to_wkt())))
    box = rasterio.coords.BoundingBox(500000, 5099920, 500080, 5100000)
    check_submission(zipped(tmp_path / "s.zip"), dict.fromkeys(NAMES, box))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 2}, "eopatch-02.tif: expected the number of bands 1. Received: 2"),
        ({"height": 33}, "eopatch-02.tif: expected the size 32x32. Received: 33x32"),
        ({"crs": "EPSG:32634"}, "eopatch-02.tif: expected the CRS EPSG:32633. Received: EPSG:32634"),
        ({"crs": None}, "eopatch-02.tif: expected the CRS EPSG:32633. Received: none"),
        ({"nodata": 255}, "eopatch-02.tif: expected the nodata value none. Received: 255.0"),
        ({"nodata": 0}, "eopatch-02.tif: expected the nodata value none. Received: 0.0"),
        ({"driver": "PNG", "crs": None, "transform": None}, "eopatch-02.tif: expected the format GTiff. Received: PNG"),
        ({"transform": None}, "eopatch-02.tif: expected a georeference. It has none."),
        ({"values": np.full((32, 32), 255)}, "eopatch-02.tif: expected values 0 and 1 only. Received: 255"),
        ({"values": np.eye(32) * 0.5, "dtype": "float32"}, "expected values 0 and 1 only. Received: 0.5"),
        ({"values": np.full((32, 32), np.nan), "dtype": "float32"}, "expected values 0 and 1 only. Received: nan"),
    ],
)
def test_a_map_that_is_not_valid(changed, message, tmp_path):
    path = zipped(tmp_path / "s.zip", eopatch_02=tif(**changed))
    with pytest.raises(SpinetError) as caught:
        check_submission(path)
    assert message in str(caught.value)


def test_a_map_with_a_mask(tmp_path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as file:
        with file.open(**PROFILE) as image:
            image.write(np.zeros((1, 32, 32), "uint8"))
            image.write_mask(np.eye(32, dtype=bool))
        path = zipped(tmp_path / "s.zip", eopatch_02=file.read())
    with pytest.raises(SpinetError, match=r"eopatch-02.tif: expected the mask all_valid. Received: per_dataset"):
        check_submission(path)


def test_a_map_in_another_place(made, tmp_path):
    bounds = scene_bounds(made / "data")
    maps = {
        name.replace("-", "_"): tif(transform=rasterio.transform.from_bounds(*bounds[name], 32, 32)) for name in NAMES
    }
    check_submission(zipped(tmp_path / "s.zip", **maps), bounds)
    path = zipped(tmp_path / "s.zip", eopatch_01=maps["eopatch_02"], eopatch_02=maps["eopatch_01"])
    with pytest.raises(SpinetError, match=r"eopatch-01.tif: expected the bounds of its scene, \d+"):
        check_submission(path, bounds)
    # Half a pixel is too far.
    left, bottom, right, top = bounds[NAMES[1]]
    shifted = rasterio.transform.from_bounds(left + 1.25, bottom, right + 1.25, top, 32, 32)
    path = zipped(tmp_path / "s.zip", **maps | {"eopatch_02": tif(transform=shifted)})
    with pytest.raises(SpinetError, match=r"eopatch-02.tif: expected the bounds of its scene, \d+"):
        check_submission(path, bounds)


def test_zips_that_are_not_valid(tmp_path, capsys):
    def error_of(path):
        assert main(["--check", str(path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    path = tmp_path / "s.zip"
    assert "missing: eopatch-02.tif." in error_of(zipped(path, eopatch_02=None))
    assert "Received 3, unexpected: eopatch-03.tif." in error_of(zipped(path, eopatch_03=tif()))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(zipped(path), "a") as archive:
        archive.writestr("eopatch-01.tif", tif())
    assert "Received 3, more than once: eopatch-01.tif." in error_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            archive.writestr(f"maps/{name}.tif", tif())
    assert "unexpected: maps/eopatch-01.tif, maps/eopatch-02.tif" in error_of(path)
    assert "eopatch-02.tif cannot be read as a GeoTIFF" in error_of(zipped(path, eopatch_02=b"no image"))
    assert "eopatch-02.tif cannot be read as a GeoTIFF" in error_of(zipped(path, eopatch_02=tif()[:700]))
    content = zipped(path).read_bytes()
    place = content.index(b"eopatch-01.tif") + 200
    path.write_bytes(content[:place] + bytes(100) + content[place + 100 :])
    assert "eopatch-01.tif cannot be read" in error_of(path)
    path.write_bytes(b"no zip")
    assert "Expected a zip" in error_of(path)
    assert "Expected a zip" in error_of(tmp_path / "nothing.zip")


def test_an_invalid_zip_is_never_left(made, tmp_path, monkeypatch, capsys):
    nothing = xr.DataArray(np.zeros((32, 32)))
    monkeypatch.setattr(submission, "predict_scene", lambda *_, **__: {"probability": nothing})
    monkeypatch.setattr(submission, "_geotiff", lambda *_: tif(nodata=255))
    assert command(made, made / "data", tmp_path / "submission.zip") == 1
    assert "eopatch-01.tif: expected the nodata value none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_must_be_said(capsys):
    for arguments in ([], ["--model", "best.keras"], ["--model", "best.keras", "--check", "s.zip"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "needs --data and --output" in capsys.readouterr().err
