"""A picture of a map, to look at without a GIS."""

import base64
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.geotiff import LEVELS, NO_DATA, reported
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.view.images import Images, true_colour_frames
from spinet_tf.inference.view.layers import read_levels
from spinet_tf.inference.view.place import describe_place

COLOURS = "viridis"
NO_DATA_LOOK: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.6", "hatch": "////"}
DPI = 150
# In inches: the longer side of a map, what a very narrow one is widened to, and the space around.
LONGER, SHORTER = 6.0, 2.4
LEFT, TOP, BOTTOM, GAP, RIGHT = 0.2, 0.65, 0.75, 0.3, 0.95


def write_quicklook(
    probability_path: str | os.PathLike,
    path: str | os.PathLike,
    scene: xr.Dataset | None = None,
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw a map as a PNG, north up, with legend and scale bar; beside it the scene's clearest image.

    A large map is drawn from its overviews, so that neither time nor memory grows with it.

    Args:
        probability_path: the map, as `write_cogs` writes it, of floats or uint8.
        path: the picture to write, a .png.
        scene: what the map was made from, as `open_scene` gives it; without it the map is drawn alone.
        title: above the picture; the map's name by default.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path written.

    Raises:
        SpinetError: if the map cannot be read, the scene lies elsewhere, or the picture exists or cannot be written.

    Example:
        write_quicklook("map.tif", "map.png", open_scene("eopatch-902"))
    """
    if Path(path).suffix.lower() != ".png":
        raise SpinetError(f"Expected a .png for the quicklook. Received: {path}")
    with replacing(path, overwrite) as temporary:
        levels, grid = read_levels(probability_path)
        images = None if scene is None else true_colour_frames(scene, grid, count=1)
        figure = _draw(levels, grid, images, title or Path(probability_path).stem)
        with reported(path):
            figure.savefig(temporary, dpi=DPI)
    return Path(path)


def _draw(levels: np.ndarray, grid: Grid, images: Images | None, title: str) -> Figure:
    metres = describe_place(grid, (grid.height, grid.width))["metres"]
    pixel_width, pixel_height = metres or (1, 1)
    length = np.array([pixel_width * grid.width, pixel_height * grid.height])
    # The map fits into a box, which is not as narrow as some maps are.
    box = np.maximum(length * LONGER / length.max(), SHORTER)
    lefts = [LEFT, LEFT + box[0] + GAP] if images else [LEFT]
    size = (lefts[-1] + box[0] + RIGHT, BOTTOM + box[1] + TOP)
    figure = Figure(size)

    def axes_at(left: float, bottom: float, width: float, height: float, **settings) -> Axes:
        return figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]), **settings)

    figure.text(LEFT / size[0], 1 - 0.12 / size[1], title, fontsize=13, fontweight="bold", va="top")
    panels = [axes_at(left, BOTTOM, *box) for left in lefts]
    if images:
        _show_image(panels[0], images)
    shown = _show_map(panels[-1], levels, grid)
    for axes in panels:
        _arrange(axes, grid, pixel_height / pixel_width)
    figure.colorbar(shown, axes_at(lefts[-1] + box[0] + 0.15, BOTTOM, 0.17, box[1]), ticks=np.linspace(0, 1, 6))
    below = axes_at(lefts[-1], 0, box[0], BOTTOM - 0.1, xlim=(0, box[0]), ylim=(0, BOTTOM - 0.1))
    below.set_axis_off()
    _scale_bar(below, (length / box).max(), box[0] / 3, "m" if metres else "pixels")
    _explain(below, grid, nodata=bool((levels == NO_DATA).any()))
    if metres:
        right, top = (lefts[-1] + box[0]) / size[0], (BOTTOM + box[1] + 0.06) / size[1]
        figure.text(right, top, "▲ N", fontsize=10, ha="right")
    return figure


def _show_image(axes: Axes, images: Images) -> None:
    left, top, right, bottom = images.box
    picture = Image.open(io.BytesIO(base64.b64decode(images.frames[0].jpeg)))
    axes.imshow(picture, extent=(left, right, bottom, top), interpolation="nearest")
    axes.set_title(f"Image of {images.frames[0].date}", loc="left", fontsize=10, pad=4)


def _show_map(axes: Axes, levels: np.ndarray, grid: Grid) -> AxesImage:
    # Seen wherever the map has no data.
    axes.patch.set(**NO_DATA_LOOK)
    axes.set_title("Probability of cultivated land", loc="left", fontsize=10, pad=4)
    return axes.imshow(
        np.ma.masked_equal(levels, NO_DATA) / LEVELS,
        extent=(0, grid.width, grid.height, 0),
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        interpolation="auto",
    )


def _arrange(axes: Axes, grid: Grid, aspect: float) -> None:
    """Show the whole map with north above and east to the right, whatever the order of its rows and columns."""
    transform = grid.transform or Affine.scale(1, -1)
    axes.set_xlim((0, grid.width) if transform.a > 0 else (grid.width, 0))
    axes.set_ylim((grid.height, 0) if transform.e < 0 else (0, grid.height))
    axes.set_aspect(aspect, anchor="SW")
    axes.set(xticks=[], yticks=[])


def _scale_bar(axes: Axes, per_inch: float, longest: float, unit: str) -> None:
    """Draw a bar of a round length, at most `longest` inches."""
    power = 10 ** math.floor(math.log10(per_inch * longest))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= per_inch * longest)
    inches = length / per_inch
    for part, colour in enumerate(("black", "white")):
        axes.add_patch(Rectangle((part * inches / 2, 0.42), inches / 2, 0.08, facecolor=colour, edgecolor="black"))
    label = f"{length / 1000:g} km" if unit == "m" and length >= 1000 else f"{length:g} {unit}"
    axes.text(inches + 0.08, 0.46, label, fontsize=9, va="center")


def _explain(axes: Axes, grid: Grid, nodata: bool) -> None:
    right = axes.get_xlim()[1]
    if nodata:
        axes.add_patch(Rectangle((right - 0.95, 0.38), 0.3, 0.17, **NO_DATA_LOOK))
        axes.text(right, 0.46, "no data", fontsize=9, va="center", ha="right")
    if grid.crs is not None and grid.transform is not None:
        unit = "degrees" if grid.crs.is_geographic else grid.crs.linear_units.replace("metre", "m")
        pixels = f"pixels of {abs(grid.transform.a):.4g} {unit}"
        epsg = grid.crs.to_epsg()
        axes.text(0, 0.2, f"EPSG:{epsg}, {pixels}" if epsg else pixels, fontsize=8, color="0.35", va="center")
