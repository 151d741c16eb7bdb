"""What is damaged: a whole source of each kind, which of its files, and how it is opened."""

import datetime
import gzip
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from spinet_tf.bands import BANDS
from spinet_tf.data import clear_fraction, open_scene
from tests.data.products import write_product
from tests.data.rasters import lonlat, product, stac_item, write_json, write_raster
from tests.labelled import labelled_scene

FRAMES, HEIGHT, WIDTH = 3, 24, 20


class Kind(NamedTuple):
    """A kind of file to damage.

    Attributes:
        make: writes a whole source into a folder and returns its path.
        files: patterns of the files, within the folder, of which one is damaged.
        open: opens the path and reads a window of what is there.
        member: the file within a ZIP archive that is damaged; None for the archive itself.
    """

    make: Callable[[Path], Path]
    files: tuple[str, ...]
    open: Callable[[Path], None]
    member: str | None = None


def read_a_window(path: Path) -> None:
    """Open a scene, ask it what every user of scenes asks, and read a small window of it."""
    scene = open_scene(path)
    window = scene.isel(time=slice(0, 2), y=slice(4, 12), x=slice(3, 11))
    if "label" in scene:
        scene["label"].isel({dim: slice(0, 16) for dim in scene["label"].dims}).load()
    assert window["bands"].dtype == "uint16"
    assert window["valid"].dtype == bool
    window.load()
    clear_fraction(window)
    assert scene.rio.crs is None or scene.rio.crs.to_wkt()
    if "x" in scene.coords and "y" in scene.coords:
        scene.rio.transform()


def load_a_model(path: Path) -> None:
    """Load a model, and use it."""
    from spinet_tf.inference.model import load_model

    load_model(path)


def _eopatch(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        masks = (FRAMES, HEIGHT, WIDTH, 1)
        arrays = {
            "data/BANDS": rng.integers(1, 10000, (FRAMES, HEIGHT, WIDTH, len(BANDS)), "uint16"),
            "mask/IS_DATA": np.ones(masks, bool),
            "mask/CLM": np.zeros(masks, "uint8"),
            "scalar/NORM_FACTORS": np.full((FRAMES, 1), 1e-4, "float32"),
            "mask_timeless/CULTIVATED": rng.random((2 * HEIGHT, 2 * WIDTH, 1)) < 0.5,
        }
        path = folder / "eopatch"
        for name, array in arrays.items():
            file = path / f"{name}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(file, "wb") if suffix.endswith(".gz") else file.open("wb") as target:
                np.save(target, array)
        dates = [datetime.datetime(2019, 4, day, 10, 0, 31) for day in (2, 12, 27)]
        ring = [[500000, 5100000], [500000, 5100240], [500200, 5100240], [500200, 5100000], [500000, 5100000]]
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
        write_json(path / "timestamps.json", [date.isoformat() for date in dates])
        write_json(path / "bbox.geojson", {"crs": crs, "type": "Polygon", "coordinates": [ring]})
        return path

    return make


def _eopatch_with_pickles(folder: Path) -> Path:
    path = _eopatch(".npy.gz")(folder)
    (path / "timestamps.json").unlink()
    (path / "bbox.geojson").unlink()
    dates = [datetime.datetime(2019, 4, day, 10, 0, 31) for day in (2, 12, 27)]
    (path / "timestamp.pkl").write_bytes(pickle.dumps(dates, 4))
    (path / "bbox.pkl").write_bytes(_pickled_box())
    return path


def _pickled_box() -> bytes:
    """A box as sentinelhub pickles it, which is not installed."""

    class BBox:
        pass

    class CRS:
        def __reduce__(self):
            return CRS, ("32633",)

    BBox.__module__, BBox.__qualname__ = "sentinelhub.geometry", "BBox"
    CRS.__module__, CRS.__qualname__ = "sentinelhub.constants", "CRS"
    modules = {cls.__module__: types.ModuleType(cls.__module__) for cls in (BBox, CRS)}
    modules["sentinelhub"] = types.ModuleType("sentinelhub")
    for cls in (BBox, CRS):
        setattr(modules[cls.__module__], cls.__name__, cls)
    CRS.__init__ = lambda self, value=None: None
    box = BBox()
    box.min_x, box.min_y, box.max_x, box.max_y, box._crs = 500000.0, 5100000.0, 500200.0, 5100240.0, CRS()
    sys.modules |= modules
    try:
        return pickle.dumps(box, 4)
    finally:
        for name in modules:
            del sys.modules[name]


def _scene() -> xr.Dataset:
    scene = labelled_scene(HEIGHT, WIDTH, FRAMES, scale=2)
    coordinates = {"y": 5100000 - 5 - 10 * np.arange(HEIGHT), "x": 500000 + 5 + 10 * np.arange(WIDTH)}
    return scene.assign_coords(coordinates).rio.write_crs("EPSG:32633")


def _netcdf(folder: Path) -> Path:
    scene = _scene()
    scene.bands.encoding |= {"zlib": True, "chunksizes": (1, 3, 16, 16)}
    scene.valid.encoding |= {"zlib": True, "chunksizes": (1, 16, 16)}
    scene.to_netcdf(folder / "scene.nc", engine="h5netcdf")
    return folder / "scene.nc"


def _zarr(version: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about text in version 3
            _scene().chunk(time=1, y=16, x=16).to_zarr(folder / "scene.zarr", zarr_format=version, consolidated=False)
        return folder / "scene.zarr"

    return make


def _geotiffs(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    names = ("B02", "B03", "B04", "SCL")
    for day, options in (
        ("20190402", {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2}),
        ("20190412", {"interleave": "band"}),
        ("20190422", {"compress": "lzw", "nodata": 0}),
    ):
        values = rng.integers(1, 9000, (4, HEIGHT, WIDTH), "uint16")
        values[3] = rng.integers(0, 12, (HEIGHT, WIDTH))
        write_raster(folder / "images" / f"{day}.tif", values, names=names, **options)
    return folder / "images"


def _safe(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return write_product(folder, product(np.random.default_rng(0)), suffix)

    return make


def _stac(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    items = []
    for n, day in enumerate(("2022-04-02T10:00:31Z", "2022-04-12T10:00:31Z")):
        bands = product(rng)
        hrefs = {}
        for band in ("B02", "B04", "B08", "B05", "SCL"):
            path = write_raster(folder / f"{n}_{band}.tif", bands[band], 36 * 10 / len(bands[band]))
            hrefs[band] = f"./{path.name}"
        properties = {"s2:processing_baseline": "05.09", "eo:cloud_cover": 12.5}
        items.append(stac_item(f"item-{n}", day, hrefs, properties, {"scale": 1e-4, "offset": -0.1}))
        write_json(folder / f"item-{n}.json", items[-1])
    head = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "for tests"}
    links = [{"rel": "item", "href": "./item-0.json"}, {"rel": "item", "href": "./item-1.json"}]
    write_json(folder / "catalog.json", {**head, "links": links})
    write_json(folder / "items.json", {"type": "FeatureCollection", "features": items})
    return folder


def _read_stac(folder: Path) -> None:
    """All items through the catalogue; and the collection of them."""
    read_a_window(folder / "catalog.json")
    read_a_window(folder / "items.json")


def _area(folder: Path) -> Path:
    west, south, east, north = lonlat(500030, 5099970, 12, 9)
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [corners]}
    feature = {"type": "Feature", "properties": {"name": "field"}, "geometry": geometry}
    write_json(folder / "area.geojson", {"type": "FeatureCollection", "features": [feature]})
    _netcdf(folder)
    return folder


def _read_in_area(folder: Path) -> None:
    open_scene(folder / "scene.nc", area=folder / "area.geojson")


def _model(folder: Path) -> Path:
    import spinet_tf

    spinet_tf.SPInet(filters=8, tefa_blocks=1, bottleneck=2).save(folder / "model.keras")
    return folder / "model.keras"


KINDS = {
    "EOPatch .npy": Kind(_eopatch(".npy"), ("**/*.npy",), read_a_window),
    "EOPatch .npy.gz": Kind(_eopatch(".npy.gz"), ("**/*.npy.gz",), read_a_window),
    "EOPatch pickles": Kind(_eopatch_with_pickles, ("**/*.pkl",), read_a_window),
    "EOPatch JSON": Kind(_eopatch(".npy"), ("**/*.json", "**/*.geojson"), read_a_window),
    "NetCDF": Kind(_netcdf, ("scene.nc",), read_a_window),
    "Zarr 2": Kind(_zarr(2), ("scene.zarr/**/*",), read_a_window),
    "Zarr 3": Kind(_zarr(3), ("scene.zarr/**/*",), read_a_window),
    "Zarr metadata": Kind(_zarr(3), ("scene.zarr/**/zarr.json",), read_a_window),
    "GeoTIFF": Kind(_geotiffs, ("images/*.tif",), read_a_window),
    "SAFE XML": Kind(_safe(".tif"), ("*/MTD_MSIL2A.xml",), read_a_window),
    "SAFE JPEG 2000": Kind(_safe(".jp2"), ("**/*.jp2",), read_a_window),
    "STAC JSON": Kind(_stac, ("*.json",), _read_stac),
    "GeoJSON area": Kind(_area, ("area.geojson",), _read_in_area),
    ".keras": Kind(_model, ("model.keras",), load_a_model),
    ".keras configuration": Kind(_model, ("model.keras",), load_a_model, "config.json"),
    ".keras weights": Kind(_model, ("model.keras",), load_a_model, "model.weights.h5"),
}
