"""A map as a dataset, in memory or in files."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (the engine rasterio)
import xarray as xr

from spinet_tf.inference.geotiff import NO_DATA, Block, write_cogs
from spinet_tf.inference.grid import Grid

# The layers of a map, and what `predict_scene` calls them.
NAMES = {"probability": "probability", "uncertainty": "uncertainty", "class": "class", "frames": "valid_frames"}
# What the uncertainty is: of a model that gives none itself, and of one that does.
UNCERTAINTY = {
    False: "binary entropy of the probability",
    True: "standard deviation of the probability",
}
_UNITS = {False: "bit", True: "1"}
_ATTRIBUTES = {
    "probability": {"long_name": "probability of cultivated land", "units": "1"},
    "uncertainty": {},
    "class": {"long_name": "cultivated land", "flag_values": [0, 1], "flag_meanings": "other cultivated"},
    "frames": {"long_name": "frames with clear ground that the model saw", "units": "1"},
}


def map_paths(
    output: str | os.PathLike, uncertainty: bool, valid_frames: bool, threshold: float | None
) -> dict[str, Path]:
    """The file of each layer: the probability in `output`, the others beside it."""
    output = Path(output)
    wanted = {"uncertainty": uncertainty, "frames": valid_frames, "class": threshold is not None}
    others = {layer: output.with_name(f"{output.stem}_{layer}.tif") for layer, is_wanted in wanted.items() if is_wanted}
    return {"probability": output, **others}


def map_in_memory(
    blocks: Iterable[Block],
    grid: Grid,
    scale: int,
    layers: Collection[str],
    threshold: float | None,
    own_uncertainty: bool = False,
) -> xr.Dataset:
    """Collect a map's blocks.

    Args:
        blocks: they cover the grid once.
        grid: of the probability.
        scale: how many times coarser the grid of "frames" is.
        layers: what blocks hold.
        threshold: of the class; none when None.
        own_uncertainty: whether the uncertainty is the model's.
    """
    coarse = grid.coarser(scale)
    arrays: dict[str, np.ndarray] = {
        layer: np.empty((coarse.height, coarse.width), np.uint16)
        if layer == "frames"
        else np.empty((grid.height, grid.width), np.float32)
        for layer in layers
    }
    for block in blocks:
        for layer, array in arrays.items():
            divisor = scale if layer == "frames" else 1
            y, x = block.y // divisor, block.x // divisor
            values = block.layers[layer]
            array[y : y + values.shape[0], x : x + values.shape[1]] = values
    if threshold is not None:
        p = arrays["probability"]
        arrays["class"] = np.where(np.isnan(p), NO_DATA, p > threshold).astype(np.uint8)
    located = {layer: xr.DataArray(array, dims=("y", "x")) for layer, array in arrays.items()}
    return _dataset(located, grid, scale, own_uncertainty)


def map_on_disk(
    blocks: Iterable[Block],
    grid: Grid,
    scale: int,
    paths: Mapping[str, Path],
    threshold: float | None,
    dtype: str,
    facts: Mapping[str, Any],
    own_uncertainty: bool = False,
) -> xr.Dataset:
    """Write a map's blocks, and open the files.

    Args:
        blocks: they cover the grid once.
        grid: of the probability.
        scale: how many times coarser the grid of "frames" is.
        paths: the file of each layer.
        threshold: of the class; none when None.
        dtype: of probability and uncertainty in the files.
        facts: what is known of the map.
        own_uncertainty: whether the uncertainty is the model's.
    """
    options = {} if threshold is None else {"threshold": threshold}
    tags = {"SCENE": facts["name"], "MODEL": facts["engine"], "DATES": " ".join(facts["dates"])}
    if "uncertainty" in paths:
        tags["UNCERTAINTY"] = UNCERTAINTY[own_uncertainty]
    write_cogs(blocks, grid, paths, scale=scale, dtype=dtype, tags=tags, overwrite=True, **options)
    arrays = {layer: _open(path, decoded=layer not in ("class", "frames")) for layer, path in paths.items()}
    return _dataset(arrays, grid, scale, own_uncertainty).assign_attrs(facts)


def _open(path: Path, decoded: bool) -> xr.DataArray:
    image = xr.open_dataarray(path, engine="rasterio", chunks={"y": 2048, "x": 2048}, mask_and_scale=decoded)
    return image.squeeze("band", drop=True).drop_vars(["x", "y", "spatial_ref"], errors="ignore")


def _dataset(arrays: Mapping[str, xr.DataArray], grid: Grid, scale: int, own_uncertainty: bool) -> xr.Dataset:
    named = {NAMES[layer]: array.assign_attrs(_ATTRIBUTES[layer]) for layer, array in arrays.items()}
    if "uncertainty" in named:
        named["uncertainty"].attrs |= {"long_name": UNCERTAINTY[own_uncertainty], "units": _UNITS[own_uncertainty]}
    coarse = {name: named.pop(name) for name in [NAMES["frames"]] if name in named}
    dataset = grid.locate(xr.Dataset(named))
    if coarse:
        located = grid.coarser(scale).locate(xr.Dataset(coarse))
        dataset = dataset.assign(located.drop_vars("spatial_ref", errors="ignore").rename(y="y_scene", x="x_scene"))
    return dataset
