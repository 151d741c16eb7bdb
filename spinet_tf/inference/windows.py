"""Reading of a scene what one group of tiles shows, and nothing else."""

import zlib
from dataclasses import dataclass

import numpy as np
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.recipe import Recipe
from spinet_tf.tiling import frames_to_read


class UnreadableError(SpinetError):
    """A window of a scene that cannot be read, while others may be."""


@dataclass(frozen=True)
class Window:
    """The part of a scene that a group of tiles shows.

    Attributes:
        images: uint16 (frames, height, width, bands).
        valid: bool (frames, height, width).
        frames: int64 (frames,), their numbers in the scene.
        dates: how many frames the scene has.
        origin: the row and column of the scene at which it begins.
        checksum: of what was read.
    """

    images: np.ndarray
    valid: np.ndarray
    frames: np.ndarray
    dates: int
    origin: tuple[int, int]
    checksum: int


def unread_window(scene: xr.Dataset, group: TileGroup) -> xr.Dataset:
    """The part of a scene, not read yet, that a group of tiles shows, of all dates."""
    return scene[["bands", "valid"]].isel(y=group.rows.shown, x=group.columns.shown)


def read_window(unread: xr.Dataset, recipe: Recipe, group: TileGroup, scheduler: str | None = None) -> Window:
    """Read the validity of all dates, and the bands of those that a tile of the group wants.

    Args:
        unread: what `unread_window` gives.
        recipe: how the map is made.
        group: the tiles.
        scheduler: dask's scheduler, "threads" for example; the default one when None.

    Raises:
        UnreadableError: if it cannot be read.
    """
    origin = (group.rows.shown.start, group.columns.shown.start)
    try:
        valid = unread["valid"].compute(scheduler=scheduler).transpose("time", "y", "x").to_numpy()
        frames = frames_to_read(valid, recipe.tiling, group.tiles, recipe.choice, origin)
        bands = unread["bands"].isel(time=frames).compute(scheduler=scheduler)
    # Files, networks and decoders fail in dozens of ways.
    except Exception as error:
        raise UnreadableError(f"{group}: {str(error) or type(error).__name__}") from error
    checksum = zlib.crc32(np.ascontiguousarray(bands).data, zlib.crc32(np.ascontiguousarray(valid).data))
    # A view: each tile is copied out of it in the order of axes that the network wants.
    images = bands.transpose("time", "y", "x", "band").to_numpy()
    return Window(images, valid[frames], frames, len(valid), origin, checksum)


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
            clear = unread_window(scene, group)["valid"].compute().to_numpy().any()
        except Exception:
            # It is reported when it is read in earnest.
            return
        if clear:
            return
    raise SpinetError(
        f"{scene.attrs.get('name', 'The scene')} has no valid frame: each of its {scene.sizes['time']} frames is cloud "
        "or no data everywhere. Expected at least one clear pixel in one frame. Add dates."
    )
