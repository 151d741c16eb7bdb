"""The page: everything that a browser needs to show a map, in one file."""

import base64
import gzip
import hashlib
import html
import json
import os
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import matplotlib
import numpy as np
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.geotiff import CLASSES, COLOURS, LEVELS, NO_DATA
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.view.images import true_colour_frames
from spinet_tf.inference.view.layers import read_classes, read_levels
from spinet_tf.inference.view.place import describe_place


def write_view(
    map_path: str | os.PathLike,
    output: str | os.PathLike,
    scene: xr.Dataset | None = None,
    *,
    class_path: str | os.PathLike | None = None,
    uncertainty_path: str | os.PathLike | None = None,
    threshold: float = 0.5,
    count: int = 20,
    overwrite: bool = False,
) -> Path:
    """Write a map as one HTML page to look at in a browser: no server, no network, nothing beside it.

    The page shows the scene in true colour date by date, and over it the map's probability, class and uncertainty,
    each with its opacity and legend; it tells values and coordinates at the cursor. Maps longer than 2,048 pixels are
    shown from their overviews, which the page says. A map of 2,000 x 2,000 pixels and 20 dates make 5 to 15 MB.

    Args:
        map_path: the probability, a GeoTIFF as `spinet predict` writes it.
        output: the page, such as "map.html"; its folder is created.
        scene: what the map was made from, as `open_scene` gives it; without it there are no images.
        class_path: the map of classes; by default map_class.tif beside map.tif, and where there is none, the classes
            are made from the probability.
        uncertainty_path: by default map_uncertainty.tif beside map.tif, if there is one.
        threshold: what cultivated land must exceed, where there is no map of classes.
        count: how many dates of the scene are shown at most, the clearest ones.
        overwrite: whether an existing page may be replaced.

    Returns:
        The path written.

    Raises:
        SpinetError: if a map is missing or cannot be used, the maps differ in their grids, the scene lies elsewhere
            or has another CRS, or the page exists or cannot be written.

    Example:
        write_view("map.tif", "map.html", open_scene("eopatch-902"))
    """
    with replacing(output, overwrite) as temporary:
        page = _page(*_contents(map_path, scene, class_path, uncertainty_path, threshold, count))
        try:
            # The name of a folder may hold bytes that are no text.
            temporary.write_text(page, encoding="utf-8", errors="replace")
        except OSError as error:
            raise SpinetError(f"Cannot write {output}: {error.strerror or error}.") from error
    return Path(output)


# === What it shows ===


def _contents(
    map_path: str | os.PathLike,
    scene: xr.Dataset | None,
    class_path: str | os.PathLike | None,
    uncertainty_path: str | os.PathLike | None,
    threshold: float,
    count: int,
) -> tuple[str, dict[str, Any]]:
    """The page's title and its data, for JSON."""
    probability, grid = read_levels(map_path)
    class_path = class_path or _sibling(map_path, "class")
    uncertainty_path = uncertainty_path or _sibling(map_path, "uncertainty")
    images = None if scene is None else true_colour_frames(scene, grid, count)

    layers = [
        _numbers(
            "probability",
            "Probability of cultivation",
            probability,
            "viridis",
            ("0", "0.5", "1"),
            opacity=0.5 if images else 1,
        )
    ]
    if class_path:
        classes = _on_grid(read_classes(class_path), grid, class_path, map_path)
        layers.append(_classes("Class", classes))
    else:
        classes = np.where(probability == NO_DATA, NO_DATA, probability > threshold * LEVELS)
        layers.append(_classes(f"Class: above {threshold:g}", classes))
    if uncertainty_path:
        uncertainty = _on_grid(read_levels(uncertainty_path), grid, uncertainty_path, map_path)
        layers.append(_numbers("uncertainty", "Uncertainty", uncertainty, "magma", ("0 sure", "1")))

    name = Path(map_path).name
    notes = []
    if probability.shape != (grid.height, grid.width):
        notes.append(
            f"{name} has {grid.width} x {grid.height} pixels. They are too many for a page, which shows "
            f"{probability.shape[1]} x {probability.shape[0]} pixels of its overview."
        )
    if scene is not None and images:
        dates = scene.sizes["time"]
        shown = "all" if len(images.frames) == dates else f"the {len(images.frames)} clearest of {dates}"
        notes.append(f"Dates: {shown}. All are drawn alike, so that they can be compared.")
        name = f"{name}, {scene.attrs.get('name', 'scene')}"
    return name, {
        "map": {**describe_place(grid, probability.shape), "levels": LEVELS, "nodata": NO_DATA},
        "layers": layers,
        "images": images and {"box": images.box, "frames": [frame._asdict() for frame in images.frames]},
        "notes": notes,
    }


def _sibling(map_path: str | os.PathLike, layer: str) -> Path | None:
    path = Path(map_path)
    path = path.with_name(f"{path.stem}_{layer}.tif")
    return path if path.is_file() else None


def _on_grid(
    layer: tuple[np.ndarray, Grid], grid: Grid, path: str | os.PathLike, map_path: str | os.PathLike
) -> np.ndarray:
    values, own = layer
    if own != grid:
        raise SpinetError(
            f"Expected {path} on the grid of {map_path}, {grid.height} x {grid.width} pixels. Received: {own.height} x "
            f"{own.width} pixels, or another place. Write both again with one command, or remove it."
        )
    return values


def _numbers(
    name: str, title: str, levels: np.ndarray, colour_map: str, ticks: tuple[str, ...], opacity: float = 0
) -> dict[str, Any]:
    colours = np.zeros((NO_DATA + 1, 4), np.uint8)
    colours[: LEVELS + 1] = matplotlib.colormaps[colour_map](np.linspace(0, 1, LEVELS + 1), bytes=True)
    return {**_layer(name, title, levels, colours, opacity), "ticks": ticks}


def _classes(title: str, levels: np.ndarray) -> dict[str, Any]:
    colours = np.zeros((NO_DATA + 1, 4), np.uint8)
    for value, colour in COLOURS.items():
        colours[value] = colour
    return {**_layer("class", title, levels, colours, 0), "classes": list(CLASSES.values())}


def _layer(name: str, title: str, levels: np.ndarray, colours: np.ndarray, opacity: float) -> dict[str, Any]:
    """A layer of the page; one of opacity 0 is hidden at first."""
    arrays = {"levels": _packed(levels), "colours": _packed(colours)}
    return {"name": name, "title": title, "opacity": opacity, **arrays}


# === How it is written ===


def _packed(array: np.ndarray) -> str:
    # Without the time, so that the same map gives the same page.
    return base64.b64encode(gzip.compress(array.astype(np.uint8).tobytes(), 6, mtime=0)).decode()


def _page(title: str, data: dict[str, Any]) -> str:
    files = resources.files("spinet_tf.inference.view")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # The page may run this script and show what it carries; it may load nothing, whatever its data say.
    policy = f"default-src 'none'; img-src data:; script-src {_hash(script)}; style-src {_hash(style)}"
    return Template(files.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        policy=f"{policy}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        # Names in the data come from anywhere: without "<" they cannot end the element that holds them.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
