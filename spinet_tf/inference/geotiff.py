"""Maps as Cloud-Optimised GeoTIFFs, written block by block."""

import os
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.shutil import copy
from rasterio.windows import Window

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.grid import Grid

# A uint8 map holds round(254 p), and 255 where there is no data.
LEVELS = 254
NO_DATA = 255
CLASSES = {0: "not cultivated", 1: "cultivated"}
COLOURS = {0: (237, 227, 203, 255), 1: (44, 127, 62, 255), NO_DATA: (0, 0, 0, 0)}

TILE = 512
# What GDAL keeps of the files being written; its own default is a twentieth of the machine's memory.
CACHE = 128 << 20


@dataclass(frozen=True)
class Block:
    """A rectangle of a map.

    Attributes:
        y: its first row in the map.
        x: its first column in the map.
        layers: "probability" float32 (height, width), NaN where there is no data; if wanted, "uncertainty" likewise,
            and "frames" uint16 on the scene's own coarser grid, (height / scale, width / scale).
    """

    y: int
    x: int
    layers: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """How one layer of a map is stored."""

    description: str
    overviews: str
    dtype: str
    nodata: float | None


def write_cogs(
    blocks: Iterable[Block],
    grid: Grid,
    paths: Mapping[str, str | os.PathLike],
    *,
    scale: int = 1,
    threshold: float = 0.5,
    dtype: str = "float32",
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write the layers of a map, each a Cloud-Optimised GeoTIFF, in memory that does not grow with the map.

    Blocks go into temporary tiled files beside the outputs, which become Cloud-Optimised GeoTIFFs (512 x 512 tiles,
    deflate, overviews, BigTIFF where it might be needed) once all blocks have come. Then all get their names
    together; whatever fails before leaves nothing behind. Nothing lies in sidecar files.

    Args:
        blocks: what the map consists of, in any order; together they cover the grid once.
        grid: of the probability.
        paths: from layers to files: any of "probability", "class", "uncertainty", "frames".
            Class is 1 where the probability is above the threshold, 0 elsewhere, with a colour table; its overviews
            keep the most frequent class. Those of probability and uncertainty are averages, those of frames nearest.
        scale: how many times coarser the grid of "frames" is.
        threshold: what cultivated land must exceed; it is kept as the tag THRESHOLD of the class.
        dtype: of probability and uncertainty: "float32" with NaN as nodata, or "uint8", round(254 p) with 255 as
            nodata and the scale 1 / 254, which QGIS applies by itself.
        tags: metadata that every file carries, such as the model's name.
        overwrite: whether existing files may be replaced.

    Returns:
        The paths written, by layer.

    Raises:
        SpinetError: if a file exists, cannot be written or the disk is full, the blocks do not cover the grid, or the
            dtype is another one.

    Example:
        write_cogs(blocks, grid, {"probability": "map.tif", "class": "map_class.tif"}, threshold=0.4)

    Reference: https://gdal.org/en/stable/drivers/raster/cog.html
    """
    if dtype not in ("float32", "uint8"):
        raise SpinetError(f"Expected float32 or uint8 for the values of a map. Received: {dtype}")
    if grid.crs is None:
        warnings.warn("The map has no CRS, because the scene has none.", stacklevel=2)
    layers = {name: _layer(name, dtype) for name in paths}
    grids = {name: grid.coarser(scale) if name == "frames" else grid for name in paths}
    with ExitStack() as outputs, rasterio.Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
        # Said above, in words about the scene.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        finished = {name: outputs.enter_context(replacing(path, overwrite)) for name, path in paths.items()}
        tiled = {name: path.with_name("tiled.tif") for name, path in finished.items()}
        with ExitStack() as closing:
            files = {}
            for name, layer in layers.items():
                with reported(paths[name]):
                    files[name] = closing.enter_context(_create(tiled[name], grids[name], layer))
                    _describe(files[name], name, layer, {**(tags or {}), **_own_tags(name, threshold)})
            written = _fill(files, blocks, grid, scale, threshold, paths)
            for name, file in files.items():
                with reported(paths[name]):
                    file.close()
        for name, layer in layers.items():
            with reported(paths[name]):
                _optimise(tiled[name], finished[name], layer)
                _check(finished[name], written[name])
            # Else all of the temporary files lie on the disk until the last output is ready.
            tiled[name].unlink()
    return {name: Path(path) for name, path in paths.items()}


def write_cog(image: xr.DataArray | xr.Dataset, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Write a map that lies in memory as a Cloud-Optimised GeoTIFF, as `write_cogs` does.

    Args:
        image: float (y, x) probability with CRS and coordinates as `predict_scene` gives it, or a Dataset with
            `probability`. Without coordinates the file counts in pixels.
        path: the file to write; its folder is created.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path written.

    Raises:
        SpinetError: if the file exists or cannot be written.

    Example:
        write_cog(predict_scene(model, scene), "map.tif")
    """
    if isinstance(image, xr.Dataset):
        image = image["probability"]
    block = Block(0, 0, {"probability": image.to_numpy()})
    return write_cogs([block], Grid.of_scene(image), {"probability": path}, overwrite=overwrite)["probability"]


@contextmanager
def open_map(path: str | os.PathLike) -> Iterator[DatasetReader]:
    """Open a map that was written, without a warning where it has no position; it holds little memory.

    Raises:
        SpinetError: if it cannot be opened.
    """
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            file = rasterio.open(path, driver="GTiff")
        except RasterioError as error:
            raise SpinetError(f"Cannot read {path} as a GeoTIFF: {error}") from error
        with file:
            yield file


def read_part(file: DatasetReader, window: Window) -> np.ndarray:
    """Read a window of the only band of a map.

    Raises:
        SpinetError: if it cannot be read.
    """
    try:
        return file.read(1, window=window)
    except RasterioError as error:
        raise SpinetError(f"Cannot read {file.name}: its data are damaged around {window}.") from error


def _layer(name: str, dtype: str) -> Layer:
    # Frames: 0 says that no frame was clear, so every number means something.
    nodata = np.nan if dtype == "float32" else NO_DATA
    return {
        "probability": Layer("probability of cultivated land", "average", dtype, nodata),
        "uncertainty": Layer("uncertainty, 0 where the model is sure", "average", dtype, nodata),
        "class": Layer("cultivated land", "mode", "uint8", NO_DATA),
        "frames": Layer("frames with clear ground", "nearest", "uint16", None),
    }[name]


def _own_tags(name: str, threshold: float) -> dict[str, str]:
    return {"THRESHOLD": str(threshold)} if name == "class" else {}


def _create(path: Path, grid: Grid, layer: Layer) -> DatasetWriter:
    place: dict[str, Any] = {"crs": grid.crs, "transform": grid.transform}
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=1,
        dtype=layer.dtype,
        nodata=layer.nodata,
        **{key: value for key, value in place.items() if value is not None},
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
        num_threads="all_cpus",
    )


def _describe(file: DatasetWriter, name: str, layer: Layer, tags: dict[str, str]) -> None:
    file.set_band_description(1, layer.description)
    file.update_tags(**tags)
    if name == "class":
        file.write_colormap(1, COLOURS)
        # GeoTIFF itself has no place for the names of classes, and GDAL would put them into a sidecar file.
        file.update_tags(1, **{f"CLASS_{value}": meaning for value, meaning in CLASSES.items()})
    elif layer.dtype == "uint8":
        file.scales = (1 / LEVELS,)


def _fill(
    files: Mapping[str, DatasetWriter],
    blocks: Iterable[Block],
    grid: Grid,
    scale: int,
    threshold: float,
    paths: Mapping[str, str | os.PathLike],
) -> dict[str, list[tuple[Window, int]]]:
    """Write the blocks, and return for each layer where they lie and their checksums."""
    covered = 0
    written: dict[str, list[tuple[Window, int]]] = {name: [] for name in files}
    for block in blocks:
        height, width = block.layers["probability"].shape
        for name, file in files.items():
            size = 1 if name != "frames" else scale
            values = _stored(name, file.dtypes[0], block, threshold)
            window = Window(block.x // size, block.y // size, width // size, height // size)
            if values.shape != (window.height, window.width) or not _inside(window, file):
                raise SpinetError(
                    f"Expected blocks on a map of {grid.height} x {grid.width} pixels. Received: {name} "
                    f"{values.shape} at row {block.y}, column {block.x}."
                )
            with reported(paths[name]):
                file.write(values, 1, window=window)
            written[name].append((window, _checksum(values)))
        covered += height * width
    if covered != grid.height * grid.width:
        raise SpinetError(f"Expected blocks of {grid.height * grid.width} pixels in all. Received: {covered}.")
    return written


def _stored(name: str, dtype: str, block: Block, threshold: float) -> np.ndarray:
    values = block.layers["probability" if name == "class" else name]
    if name == "frames":
        return values.astype(np.uint16, copy=False)
    if name == "class":
        return np.where(np.isnan(values), NO_DATA, values > threshold).astype(np.uint8)
    if dtype == "uint8":
        return np.where(np.isnan(values), NO_DATA, np.rint(LEVELS * np.nan_to_num(values))).astype(np.uint8)
    return values.astype(np.float32, copy=False)


def _inside(window: Window, file: DatasetWriter) -> bool:
    return (
        min(window.row_off, window.col_off) >= 0
        and window.row_off + window.height <= file.height
        and window.col_off + window.width <= file.width
    )


def _optimise(source: Path, target: Path, layer: Layer) -> None:
    copy(
        source,
        target,
        driver="COG",
        blocksize=TILE,
        compress="deflate",
        predictor="yes",
        overview_resampling=layer.overviews,
        bigtiff="if_safer",
        num_threads="all_cpus",
    )


def _check(path: Path, written: Iterable[tuple[Window, int]]) -> None:
    """Read all of a file again: what fails when a file is closed, on a full disk above all, is reported nowhere."""
    with rasterio.open(path) as file:
        for window, checksum in written:
            if _checksum(file.read(1, window=window)) != checksum:
                raise OSError("what was written does not come back")
        levels = len(file.overviews(1))
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as overview:
            for _, window in overview.block_windows(1):
                overview.read(1, window=window)


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)


@contextmanager
def reported(path: str | os.PathLike) -> Iterator[None]:
    """Turn whatever fails while `path` is written into one SpinetError, which says how full the disk is."""
    try:
        yield
    # The exceptions of GDAL and of other libraries have no base class in common.
    except Exception as error:
        free = shutil.disk_usage(Path(path).parent).free / 1e9
        raise SpinetError(f"Cannot write {path}, where {free:.1f} GB are free: {error}") from error
