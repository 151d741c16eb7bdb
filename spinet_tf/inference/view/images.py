"""A scene's dates as true-colour pictures that lie on a map."""

import base64
import io
import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from affine import Affine
from PIL import Image

from spinet_tf.data.scene import clear_fraction
from spinet_tf.errors import SpinetError
from spinet_tf.inference.grid import Grid
from spinet_tf.progress import track
from spinet_tf.tiling import choose_frames

LONGEST_SIDE = 1024


class Frame(NamedTuple):
    """One date.

    Attributes:
        date: "2019-05-31", or the frame's number where the scene has no dates.
        clear: the share of it, within the map, where clear ground was seen.
        jpeg: the picture, base64.
    """

    date: str
    clear: float
    jpeg: str


class Images(NamedTuple):
    """The dates of a scene.

    Attributes:
        frames: in the scene's order.
        box: left, top, right and bottom of every picture, in pixels of the map.
    """

    frames: list[Frame]
    box: tuple[float, float, float, float]


def true_colour_frames(scene: xr.Dataset, grid: Grid, count: int) -> Images:
    """Draw the clearest dates of a scene in red, green and blue, or its first band in grey where it lacks those.

    All have one stretch, so that dates can be compared. Of scenes longer than 1,024 pixels every second, third, ...
    pixel is shown.

    Args:
        scene: as `open_scene` gives it.
        grid: of the map; what lies outside of it is left out.
        count: how many dates at most.

    Raises:
        SpinetError: if the map has another CRS or lies elsewhere, or no date shows clear ground there.

    Example:
        true_colour_frames(open_scene("scene.nc"), Grid.of_scene(scene, 4), 20).frames[0].date
    """
    to_map = _pixels_to_map(scene, grid)
    rows, columns = _overlap(scene, grid, to_map)
    scene = scene.isel(y=rows, x=columns)
    clear = clear_fraction(scene)
    chosen = choose_frames(clear, "clearest", count)
    step = math.ceil(max(scene.sizes["y"], scene.sizes["x"]) / LONGEST_SIDE)
    # The middle one of `step` pixels stands for all of them.
    thin = slice(step // 2, None, step)
    names = [str(name) for name in scene["band"].values]
    bands = [names.index(name) for name in ("B04", "B03", "B02") if name in names]
    seen = scene.isel(band=bands if len(bands) == 3 else [0, 0, 0], y=thin, x=thin)

    numbers = [seen["bands"].variable[frame].to_numpy() for frame in track(chosen, "Reading images")]
    valid = [seen["valid"].variable[frame].to_numpy() for frame in chosen]
    dark, bright = _stretch(numbers, valid)
    height, width = numbers[0].shape[1:]
    left, top = to_map @ (columns.start, rows.start)
    right, bottom = to_map @ (columns.start + step * width, rows.start + step * height)
    frames = [
        Frame(_date(scene, frame), round(float(clear[frame]), 3), _jpeg(image, dark, bright))
        for frame, image in zip(chosen, numbers, strict=True)
    ]
    return Images(frames, (left, top, right, bottom))


def _pixels_to_map(scene: xr.Dataset, grid: Grid) -> Affine:
    """From (column, row) of the scene to (column, row) of the map."""
    own = Grid.of_scene(scene)
    if own.crs != grid.crs or (own.transform is None) != (grid.transform is None):
        raise SpinetError(
            f"Expected a scene in the CRS of the map, {grid.crs or 'none'}. Received: {own.crs or 'none'}. "
            "Give the scene that the map was made from."
        )
    if own.transform is None or grid.transform is None:
        # Neither says where it lies: they are of one place if one is a whole number of times as fine as the other.
        scale = grid.height // own.height
        if (grid.height, grid.width) != (scale * own.height, scale * own.width):
            raise SpinetError(
                f"Expected a map a whole number of times as fine as the scene, {own.height} x {own.width} pixels: "
                f"neither has coordinates. Received: {grid.height} x {grid.width} pixels."
            )
        return Affine.scale(scale)
    return ~grid.transform @ own.transform


def _overlap(scene: xr.Dataset, grid: Grid, to_map: Affine) -> tuple[slice, slice]:
    """The scene's rows and columns that the map covers, partly or wholly."""
    corners = [~to_map @ corner for corner in ((0, 0), (grid.width, grid.height))]
    parts = []
    for axis, length in ((1, scene.sizes["y"]), (0, scene.sizes["x"])):
        low, high = sorted(corner[axis] for corner in corners)
        # A millionth of a pixel is rounding, not overlap.
        part = slice(max(math.floor(low + 1e-6), 0), min(math.ceil(high - 1e-6), length))
        if part.start >= part.stop:
            raise SpinetError(
                f"The map and the scene {scene.attrs.get('name', '')} do not overlap. "
                "Give the scene that the map was made from."
            )
        parts.append(part)
    return parts[0], parts[1]


def _stretch(numbers: list[np.ndarray], valid: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What is shown black and white in each band, (3, 1, 1)."""
    ground = np.concatenate([image[:, mask] for image, mask in zip(numbers, valid, strict=True)], axis=1)
    if not ground.size:
        # Every clear pixel was thinned out.
        ground = np.stack(numbers, axis=1).reshape(3, -1)
    dark, bright = np.percentile(ground, (1, 99), axis=1)[:, :, None, None]
    return dark, np.maximum(bright, dark + 1)


def _jpeg(image: np.ndarray, dark: np.ndarray, bright: np.ndarray) -> str:
    # The power lifts the dark greens of summer, beside which bare soil and roofs are bright.
    colours = 255 * np.clip((image - dark) / (bright - dark), 0, 1) ** 0.7
    stream = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8).transpose(1, 2, 0)).save(stream, "JPEG", quality=90, subsampling=0)
    return base64.b64encode(stream.getvalue()).decode()


def _date(scene: xr.Dataset, frame: int) -> str:
    return str(scene["time"].values[frame])[:10] if "time" in scene.coords else f"Frame {frame}"
