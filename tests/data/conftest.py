"""Small EOPatches, written here by hand in both layouts."""

import datetime
import gzip
import json
import pickle
import sys
import types

import numpy as np
import pytest

from spinet_tf.bands import BANDS

FRAMES, HEIGHT, WIDTH, SCALE = 3, 4, 5, 4
LEFT, BOTTOM, PIXEL = 500000.0, 5100000.0, 10.0
DATES = [datetime.datetime(2019, 4, day, 10, 0, 31) for day in (2, 12, 27)]


@pytest.fixture
def arrays():
    """The features of a patch: every pixel clear but for single ones that each mask takes out."""
    rng = np.random.default_rng(0)
    masks = (FRAMES, HEIGHT, WIDTH, 1)
    content = {
        "data/BANDS": rng.integers(1, 10000, (FRAMES, HEIGHT, WIDTH, len(BANDS)), "uint16"),
        "mask/IS_DATA": np.ones(masks, bool),
        "mask/CLM": np.zeros(masks, "uint8"),
        "mask/SCL": rng.choice(np.array([4, 5, 6, 7], "uint8"), masks),
        "scalar/NORM_FACTORS": np.full((FRAMES, 1), 1e-4, "float32"),
        "mask_timeless/CULTIVATED": rng.random((HEIGHT * SCALE, WIDTH * SCALE, 1)) < 0.5,
        "mask_timeless/NOT_DECLARED": np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 1), bool),
    }
    content["mask_timeless/NOT_DECLARED"][3, 7] = True
    return content


@pytest.fixture
def bbox_geojson():
    right, top = LEFT + WIDTH * PIXEL, BOTTOM + HEIGHT * PIXEL
    ring = [[LEFT, BOTTOM], [LEFT, top], [right, top], [right, BOTTOM], [LEFT, BOTTOM]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    return {"crs": crs, "type": "Polygon", "coordinates": [ring]}


@pytest.fixture
def sentinelhub(monkeypatch):
    """Modules with the names and pickles of sentinelhub's BBox and CRS; gone when the patch is read."""

    def modules(bbox_module="sentinelhub.geometry", crs_attribute="_crs", protocol=4):
        class BBox:
            pass

        class CRS:
            def __init__(self, value):
                self.value = value

            def __reduce__(self):  # as enum members do
                return CRS, (self.value,)

        BBox.__module__, BBox.__qualname__ = bbox_module, "BBox"
        CRS.__module__, CRS.__qualname__ = "sentinelhub.constants", "CRS"
        box = BBox()
        box.min_x, box.max_x = LEFT, LEFT + WIDTH * PIXEL
        box.min_y, box.max_y = BOTTOM, BOTTOM + HEIGHT * PIXEL
        setattr(box, crs_attribute, CRS("32633"))
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "sentinelhub", types.ModuleType("sentinelhub"))
            for cls in (BBox, CRS):
                module = types.ModuleType(cls.__module__)
                setattr(module, cls.__name__, cls)
                patch.setitem(sys.modules, cls.__module__, module)
            return pickle.dumps(box, protocol)

    return modules


@pytest.fixture
def write_2021(tmp_path, arrays, sentinelhub):
    """A function that writes the patch as eo-learn 0.x did."""

    def write():
        folder = tmp_path / "eopatch-2021"
        for name, array in arrays.items():
            write_npy_gz(folder / f"{name}.npy.gz", array)
        (folder / "timestamp.pkl.gz").write_bytes(gzip.compress(pickle.dumps(DATES)))
        (folder / "bbox.pkl.gz").write_bytes(gzip.compress(sentinelhub()))
        (folder / "meta_info.pkl.gz").write_bytes(b"is not read")
        return folder

    return write


@pytest.fixture
def write_1x(tmp_path, arrays, bbox_geojson):
    """A function that writes the patch as eo-learn 1.x does, without compression or with zarr or gzip."""

    def write(suffix=".npy"):
        import zarr

        folder = tmp_path / f"eopatch{suffix}-1x"
        for name, array in arrays.items():
            path = folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".zarr":
                # eo-learn 1.x writes version 2, one chunk for each date.
                chunks = (1, *array.shape[1:]) if len(array) == FRAMES else array.shape
                zarr.create_array(path, data=array, chunks=chunks, zarr_format=2)
            elif suffix == ".npy":
                np.save(path, array)
            else:
                write_npy_gz(path, array)
        for name, content in (
            ("timestamps.json", [date.isoformat() for date in DATES]),
            ("bbox.geojson", bbox_geojson),
        ):
            text = json.dumps(content).encode()
            if suffix == ".npy.gz":
                (folder / f"{name}.gz").write_bytes(gzip.compress(text))
            else:
                (folder / name).write_bytes(text)
        return folder

    return write


def write_npy_gz(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        np.save(file, array, **options)
