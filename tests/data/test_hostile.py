"""Files made to harm: they are refused before they run anything or take the memory."""

import json
import os
import pickle

import h5py
import numpy as np
import pytest
import zarr

from spinet_tf.data import open_scene
from spinet_tf.data.sizes import require_sizes
from spinet_tf.errors import SpinetError
from tests.data.rasters import stac_item, write_json, write_raster
from tests.fuzz_sources import KINDS


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not os.path.exists("ran")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (2, {"filters": [{"id": "pickle", "protocol": 4}], "compressor": None}),
        (2, {"filters": None, "compressor": {"id": "pickle", "protocol": 4}}),
        (3, {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]}),
    ],
)
def test_zarr_with_pickles(tmp_path, version, changes):
    path = KINDS[f"Zarr {version}"].make(tmp_path)
    for name in ("band", "bands", "time"):
        change(path / name / (".zarray" if version == 2 else "zarr.json"), **changes)
        for file in (path / name).rglob("*"):
            if file.is_file() and file.name not in (".zarray", ".zattrs", "zarr.json"):
                file.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(SpinetError, match=r"scene\.zarr cannot be read"):
        open_scene(path)


def test_netcdf_with_a_coordinate_without_end(tmp_path):
    """A few kilobytes that announce 4 GiB, which would be read when the file is opened."""
    path = KINDS["NetCDF"].make(tmp_path)
    with h5py.File(path, "a") as file:
        del file["y"]
        file.create_dataset("y", (1 << 29,), "f8", chunks=(1 << 16,)).make_scale("y")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(SpinetError, match=r"y in .*scene\.nc announces 536870912 pixels"):
        open_scene(path)


def test_zarr_with_a_chunk_without_end(tmp_path):
    path = KINDS["Zarr 2"].make(tmp_path)
    change(path / "bands" / ".zarray", chunks=[1, 12, 1 << 15, 1 << 15])
    with pytest.raises(SpinetError, match=r"bands in .*scene\.zarr is kept in pieces of 24576 MiB"):
        open_scene(path)


def test_eopatch_with_a_chunk_without_end(tmp_path):
    array = zarr.create_array(tmp_path / "data" / "BANDS.zarr", shape=(2, 4, 5, 12), dtype="uint16", zarr_format=2)
    array[:] = 1
    change(tmp_path / "data" / "BANDS.zarr" / ".zarray", chunks=[1, 1 << 15, 1 << 15, 12])
    with pytest.raises(SpinetError, match=r"BANDS\.zarr is kept in pieces of 24576 MiB"):
        open_scene(tmp_path)


@pytest.mark.parametrize(("interleave", "size"), [("pixel", 4), ("band", 2)])
def test_geotiff_in_one_piece(tmp_path, monkeypatch, interleave, size):
    values = np.ones((2, 1024, 1024), "uint16")
    options = {"tiled": True, "blockxsize": 1024, "blockysize": 1024}
    path = write_raster(tmp_path / "20190402.tif", values, interleave=interleave, names=("B02", "B03"), **options)
    monkeypatch.setattr("spinet_tf.data.sizes._LARGEST_PIECE", size << 20)
    open_scene(path)
    monkeypatch.setattr("spinet_tf.data.sizes._LARGEST_PIECE", (size << 20) - 1)
    with pytest.raises(SpinetError, match=rf"20190402\.tif is kept in pieces of {size} MiB"):
        open_scene(path)


def test_limits():
    require_sizes((1 << 20, 3), (1, 1 << 28), 2, "here")
    require_sizes((), (), 8, "here")
    with pytest.raises(SpinetError, match="here announces 1048577"):
        require_sizes((3, (1 << 20) + 1), (1,), 1, "here")
    with pytest.raises(SpinetError, match="here is kept in pieces of 513 MiB"):
        require_sizes((3,), (513, 1 << 20), 1, "here")


def test_metadata_of_products_without_end(tmp_path):
    """Elements in elements: small in the file, large in memory."""
    folder = tmp_path / "A.SAFE"
    folder.mkdir()
    (folder / "MTD_MSIL2A.xml").write_text("<a>" * 300_000 + "</a>" * 300_000)
    with pytest.raises(SpinetError, match="it is too large"):
        open_scene(folder)
    (folder / "MTD_MSIL2A.xml").write_text("<a>" * 100_000 + "</a>" * 100_000)
    with pytest.raises(SpinetError, match=r"Expected BOA_ADD_OFFSET|Expected images"):
        open_scene(folder)


def test_stac_that_leads_to_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "item.json")
    head = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "for tests"}
    path = write_json(tmp_path / "catalog.json", {**head, "links": [{"rel": "item", "href": "./item.json"}]})
    with pytest.raises(SpinetError, match=r"There is no file .*item\.json"):
        open_scene(path)


def test_stac_that_leads_to_a_virtual_raster(tmp_path):
    """GDAL would follow one to other files, and to code."""
    (tmp_path / "B02.tif").write_text("<VRTDataset rasterXSize='4' rasterYSize='4'></VRTDataset>")
    item = stac_item("item", "2022-04-02T10:00:31Z", {"B02": "./B02.tif"}, {"s2:processing_baseline": "05.09"})
    scene = open_scene(write_json(tmp_path / "item.json", item))
    with pytest.raises(SpinetError, match=r"B02\.tif cannot be read: .*not recognized"):
        scene.isel(y=slice(2), x=slice(2)).bands.load()
