"""Reading of a scene what one group of tiles shows, and nothing else."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.recipe import Recipe
from spinet_tf.tiling import Series, frames_to_read


class UnreadableError(SpinetError):
    """A window of a scene that cannot be read, while others may be."""


@dataclass(frozen=True)
class Window:
    """What a group of tiles needs of a scene.

    Attributes:
        series: the images that it shows, and the validity of all that surrounds it.
        checksum: of what was read.
    """

    series: Series
    checksum: int


class Unread(NamedTuple):
    """What a group of tiles needs of a scene, not read yet.

    Attributes:
        bands: what they show, of all dates.
        valid: the validity of that and of what surrounds it.
        origin: the row and column of the scene at which `bands` begins.
        valid_origin: those at which `valid` begins.
    """

    bands: xr.DataArray
    valid: xr.DataArray
    origin: tuple[int, int]
    valid_origin: tuple[int, int]


def unread_window(scene: xr.Dataset, recipe: Recipe, group: TileGroup) -> Unread:
    """What a group of tiles needs of a scene."""
    y, x = group.rows.shown, group.columns.shown
    rows, columns = group.around(recipe.tiling)
    return Unread(
        scene["bands"].isel(y=y, x=x),
        scene["valid"].isel(y=rows, x=columns),
        (y.start, x.start),
        (rows.start, columns.start),
    )


def read_window(unread: Unread, recipe: Recipe, group: TileGroup, scheduler: str | None = None) -> Window:
    """Read the validity of all dates, and the bands of those that a tile of the group may want.

    Args:
        unread: what `unread_window` gives.
        recipe: how the map is made.
        group: the tiles.
        scheduler: dask's scheduler, "threads" for example; the default one when None.

    Raises:
        UnreadableError: if it cannot be read.
    """
    try:
        valid = unread.valid.compute(scheduler=scheduler).transpose("time", "y", "x").to_numpy()
        frames = frames_to_read(valid, recipe.tiling, group.tiles, recipe.choice, unread.valid_origin)
        bands = unread.bands.isel(time=frames).compute(scheduler=scheduler)
    # Files, networks and decoders fail in dozens of ways.
    except Exception as error:
        raise UnreadableError(f"{group}: {str(error) or type(error).__name__}") from error
    checksum = zlib.crc32(np.ascontiguousarray(bands).data, zlib.crc32(np.ascontiguousarray(valid).data))
    # A view: each tile is copied out of it in the order of axes that the network wants.
    images = bands.transpose("time", "y", "x", "band").to_numpy()
    return Window(Series(images, valid, frames, unread.origin, unread.valid_origin), checksum)


def require_scene(scene: xr.Dataset) -> None:
    """Raise a SpinetError unless images are digital numbers, and validity is true or false."""
    for name, dtype in (("bands", np.uint16), ("valid", np.bool_)):
        if name not in scene or scene[name].dtype != dtype:
            received = f"{name} of {scene[name].dtype}" if name in scene else f"none named {name}"
            raise SpinetError(
                f"Expected a scene as open_scene gives it, with {name} of {np.dtype(dtype)}. Received: {received}."
            )


def require_clear_ground(scene: xr.Dataset, groups: list[TileGroup]) -> None:
    """Raise a SpinetError if no frame of the scene shows clear ground anywhere; reads until one does."""
    for group in groups:
        try:
            clear = scene["valid"].isel(y=group.rows.inside, x=group.columns.inside).compute().to_numpy().any()
        except Exception:
            # It is reported when it is read in earnest.
            return
        if clear:
            return
    raise SpinetError(
        f"{scene.attrs.get('name', 'The scene')} has no valid frame: each of its {scene.sizes['time']} frames is cloud "
        "or no data everywhere. Expected at least one clear pixel in one frame. Add dates."
    )
