"""Patches cut from labelled scenes: images, label and weight of one window, turned together. NumPy only."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import xarray as xr

from spinet_tf.data.ai4eo import label_weights
from spinet_tf.data.scene import select_bands
from spinet_tf.errors import SpinetError

Weights = Literal["uniform", "ai4eo", "scene"]

# Random windows tried before a scene is given up: 1 in 50 is usable with near certainty within 500.
_TRIES = 500


class Patch(NamedTuple):
    """One window of a scene, `scale` times finer in its label.

    Attributes:
        images: uint16 (time, height, width, bands), digital numbers of the chosen frames.
        label: uint8 (scale * height, scale * width, 1), 1 cultivated, 0 not or unknown.
        weight: float32 (scale * height, scale * width, 1), 0 where unknown.
    """

    images: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def labelled(scene: xr.Dataset, bands: Sequence[str] | None = None, weights: Weights = "uniform") -> xr.Dataset:
    """Make a scene ready to cut patches from it: bands by name, label and weight in memory on their own grid.

    Args:
        scene: as `open_scene` gives it, with a label. Images stay as lazy as they are.
        bands: names of the bands, in the model's order; None for the scene's own.
        weights: what a pixel weighs: "uniform" 1, "ai4eo" what it does in the challenge's score, "scene" the scene's
            own `weight`. Unknown pixels always weigh 0.

    Returns:
        The scene with `label` uint8 and `weight` float32 (y_label, x_label), also where the grids are equal.

    Raises:
        SpinetError: if a band or the label is missing, or no pixel of the label is known.

    Example:
        scene = labelled(open_scene("eopatch-902"), bands=("B04", "B08"))
    """
    name = scene.attrs.get("name", "The scene")
    if bands is not None:
        scene = select_bands(scene, bands)
    if "label" not in scene:
        raise SpinetError(
            f"{name} has no label. Expected CULTIVATED in an EOPatch, or a variable `label` (1 cultivated, 0 not, "
            "255 unknown). Add it, or leave this scene out."
        )
    label = scene["label"].to_numpy()
    if not np.any(label != 255):
        raise SpinetError(f"{name} has a label of unknown pixels only (255). Leave this scene out.")
    if weights == "ai4eo":
        weight = label_weights(label)
    elif weights == "uniform":
        weight = (label != 255).astype("float32")
    elif weights == "scene" and "weight" in scene:
        weight = np.where(label != 255, scene["weight"].to_numpy(), 0).astype("float32")
    else:
        raise SpinetError(
            f"Expected weights out of {', '.join(get_args(Weights))}, the last for scenes with a variable `weight`. "
            f"Received: {weights!r} for {name}"
        )
    fine = ("y_label", "x_label")
    return scene.drop_vars(["label", "weight"], errors="ignore").assign(label=(fine, label), weight=(fine, weight))


def label_scale(scene: xr.Dataset) -> int:
    """How many times finer the label of a `labelled` scene is than its images."""
    return scene.sizes["y_label"] // scene.sizes["y"]


def cut_patch(
    scene: xr.Dataset, row: int, column: int, size: int, choose: Callable[[np.ndarray], np.ndarray]
) -> Patch | None:
    """Cut one square window out of a `labelled` scene, reading no frame that is not chosen.

    Args:
        scene: what `labelled` returns.
        row: first row of the window, in pixels of the images.
        column: first column.
        size: height and width, in pixels of the images.
        choose: which frames to take, given the clear fraction of each inside the window, as `choose_frames` does.

    Returns:
        The patch; None where no frame has a valid pixel in the window, or no pixel of it weighs anything.

    Example:
        patch = cut_patch(scene, 0, 32, size=32, choose=choose_frames)
    """
    clear = scene["valid"].variable[:, row : row + size, column : column + size].to_numpy().mean((1, 2), "float64")
    if not clear.any() or not scene["weight"].variable[_fine(scene, row, column, size)].any():
        return None
    return read_patch(scene, row, column, size, choose(clear))


def read_patch(scene: xr.Dataset, row: int, column: int, size: int, frames: np.ndarray) -> Patch:
    """Those frames of a square window of a `labelled` scene, its label and its weight; arguments as in `cut_patch`."""
    # Variables without their coordinates, which would take most of the time.
    fine = _fine(scene, row, column, size)
    label, weight = (scene[name].variable[fine].to_numpy()[..., None] for name in ("label", "weight"))
    images = scene["bands"].variable[frames, :, row : row + size, column : column + size].to_numpy()
    return Patch(images.transpose(0, 2, 3, 1), (label == 1).astype("uint8"), weight)


def _fine(scene: xr.Dataset, row: int, column: int, size: int) -> tuple[slice, slice]:
    """Where a window lies on the grid of the label."""
    scale = label_scale(scene)
    return slice(scale * row, scale * (row + size)), slice(scale * column, scale * (column + size))


def random_patch(
    scene: xr.Dataset,
    size: int,
    choose: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    balance: bool = False,
) -> tuple[int, int, Patch]:
    """Cut a window from a random place of a `labelled` scene where ground was seen and some label is known.

    Args:
        scene: what `labelled` returns.
        size: height and width, in pixels of the images.
        choose: as in `cut_patch`.
        rng: where places are drawn from.
        balance: whether every second patch on average is one around a random cultivated pixel, and the others around
            one that is not; a scene without pixels of one kind gives the other. Without it all places are as likely.

    Returns:
        The first row and first column of the window, and the patch.

    Raises:
        SpinetError: if the scene is smaller than the patch, or no such place is found.

    Example:
        row, column, patch = random_patch(scene, 32, choose_frames, np.random.default_rng(0))
    """
    require_size(scene, size)
    last = np.array([scene.sizes["y"] - size, scene.sizes["x"] - size])
    for _ in range(_TRIES):
        first = np.zeros(2, int)
        if balance:
            pixel = _pixel_of_class(scene, int(rng.integers(2)), rng)
            first, final = np.maximum(pixel - size + 1, 0), np.minimum(pixel, last)
        else:
            final = last
        row, column = rng.integers(first, final + 1).tolist()
        patch = cut_patch(scene, row, column, size, choose)
        if patch is not None:
            return row, column, patch
    raise SpinetError(
        f"{scene.attrs.get('name', 'The scene')}: none of {_TRIES} random windows of {size}x{size} pixels has a clear "
        "pixel and a known label. Leave this scene out."
    )


def _pixel_of_class(scene: xr.Dataset, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Row and column, in pixels of the images, of a random label pixel that is `wanted`, or known where none is."""
    label = scene["label"].to_numpy()
    drawn = rng.integers(label.size, size=_TRIES)
    found = drawn[label.flat[drawn] == wanted]
    if not found.size:
        # Rare or absent: look at every pixel, which takes a thousand times longer.
        found = np.flatnonzero(label == wanted)
        found = rng.permutation(found if found.size else np.flatnonzero(label != 255))
    return np.array(divmod(int(found[0]), label.shape[1])) // label_scale(scene)


def grid_windows(scene: xr.Dataset, size: int) -> list[tuple[int, int, np.ndarray]]:
    """The windows that cover a `labelled` scene, each label pixel counted once.

    Where the size does not divide the scene, the last windows lie against its edge, and pixels of their overlap with
    the ones before weigh 0. Windows in which no ground was seen or nothing counts are left out.

    Args:
        scene: what `labelled` returns.
        size: height and width, in pixels of the images.

    Returns:
        (first row, first column, weight as in `Patch`) of each window, row by row.

    Raises:
        SpinetError: if the scene is smaller than the patch.

    Example:
        for row, column, weight in grid_windows(scene, 32):
            patch = cut_patch(scene, row, column, 32, choose_frames)._replace(weight=weight)
    """
    require_size(scene, size)
    seen = scene["valid"].variable.any("time").to_numpy()
    windows = []
    for y in range(0, scene.sizes["y"], size):
        for x in range(0, scene.sizes["x"], size):
            row, column = min(y, scene.sizes["y"] - size), min(x, scene.sizes["x"] - size)
            weight = scene["weight"].to_numpy()[_fine(scene, row, column, size)][..., None]
            weight = own_weight(weight, row, column, size)
            if weight.any() and seen[row : row + size, column : column + size].any():
                windows.append((row, column, weight))
    return windows


def own_weight(weight: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    """A copy of a grid window's weight with 0 where the windows before it count the pixels."""
    scale = len(weight) // size
    weight = weight.copy()
    # Windows start at multiples of their size, but for the last ones, which lie against the edge.
    weight[: scale * (-row % size)] = 0
    weight[:, : scale * (-column % size)] = 0
    return weight


def turn(patch: Patch, symmetry: int) -> Patch:
    """Flip and rotate a patch: images, label and weight together.

    Args:
        patch: a square patch.
        symmetry: which of the 8 symmetries of the square: quarter turns `symmetry % 4`, then transposed from 4 on.

    Returns:
        Views of the patch's arrays; nothing is copied.

    Example:
        patch = turn(patch, rng.integers(8))
    """

    def turned(array, rows):
        array = np.rot90(array, symmetry % 4, axes=(rows, rows + 1))
        return array.swapaxes(rows, rows + 1) if symmetry >= 4 else array

    return Patch(turned(patch.images, 1), turned(patch.label, 0), turned(patch.weight, 0))


def require_size(scene: xr.Dataset, size: int) -> None:
    """Raise a SpinetError if the scene is smaller than a patch."""
    height, width = scene.sizes["y"], scene.sizes["x"]
    if size > min(height, width):
        raise SpinetError(
            f"Expected a patch of at most {min(height, width)} pixels, the smaller side of "
            f"{scene.attrs.get('name', 'the scene')} ({height}x{width}). Received: {size}"
        )
