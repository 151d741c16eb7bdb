"""What a scene is made of, from the heads of its files: quick where opening it would read all of it."""

from pathlib import Path
from typing import NamedTuple

from spinet_tf.bands import BANDS
from spinet_tf.data.eopatch import read_eopatch_sizes
from spinet_tf.data.scene import open_scene


class Header(NamedTuple):
    """Sizes and bands of a scene.

    Attributes:
        bands: names of the bands, in the scene's order.
        frames: how many dates there are.
        height: rows of the images.
        width: columns.
        scale: how many times finer the label is than the images; None without a label.
    """

    bands: tuple[str, ...]
    frames: int
    height: int
    width: int
    scale: int | None


def read_header(path: Path) -> Header:
    """Look at a scene without reading its images.

    Args:
        path: what `open_scene` opens.

    Returns:
        What the scene will have, if its files are whole.

    Raises:
        SpinetError: if a file is missing or its head cannot be read.

    Example:
        >>> read_header(Path("train/eopatch-902"))[1:]
        (21, 500, 500, 4)
    """
    if path.suffix in (".nc", ".zarr"):
        # Opened without reading their values.
        scene = open_scene(path)
        sizes = scene.sizes
        fine = None if "label" not in scene else sizes.get("y_label", sizes["y"])
        bands = tuple(map(str, scene["band"].values))
        return Header(bands, sizes["time"], sizes["y"], sizes["x"], fine and fine // sizes["y"])
    (frames, height, width), label = read_eopatch_sizes(path)
    return Header(BANDS, frames, height, width, label and label[0] // height)
