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
    scale = label_scale(scene)
    # Variables without their coordinates, which would take most of the time.
    rows, columns = slice(row, row + size), slice(column, column + size)
    fine = slice(scale * row, scale * (row + size)), slice(scale * column, scale * (column + size))
    weight = scene["weight"].variable[fine].to_numpy()
    clear = scene["valid"].variable[:, rows, columns].to_numpy().mean(axis=(1, 2), dtype="float64")
    if not (weight.any() and clear.any()):
        return None
    label = scene["label"].variable[fine].to_numpy()
    images = scene["bands"].variable[choose(clear), :, rows, columns].to_numpy()
    return Patch(images.transpose(0, 2, 3, 1), (label == 1).astype("uint8")[..., None], weight[..., None])


def random_patch(
    scene: xr.Dataset, size: int, choose: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> Patch:
    """Cut a window from a random place of a `labelled` scene where ground was seen and some label is known.

    Args:
        scene: what `labelled` returns.
        size: height and width, in pixels of the images.
        choose: as in `cut_patch`.
        rng: where places are drawn from.

    Raises:
        SpinetError: if the scene is smaller than the patch, or no such place is found.

    Example:
        patch = random_patch(scene, 32, choose_frames, np.random.default_rng(0))
    """
    require_size(scene, size)
    height, width = scene.sizes["y"], scene.sizes["x"]
    for _ in range(_TRIES):
        row, column = rng.integers((height - size + 1, width - size + 1)).tolist()
        patch = cut_patch(scene, row, column, size, choose)
        if patch is not None:
            return patch
    raise SpinetError(
        f"{scene.attrs.get('name', 'The scene')}: none of {_TRIES} random windows of {size}x{size} pixels has a clear "
        "pixel and a known label. Leave this scene out."
    )


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
    scale = label_scale(scene)
    seen = scene["valid"].variable.any("time").to_numpy()
    windows = []
    for y in range(0, scene.sizes["y"], size):
        for x in range(0, scene.sizes["x"], size):
            row, column = min(y, scene.sizes["y"] - size), min(x, scene.sizes["x"] - size)
            fine = np.s_[scale * row : scale * (row + size), scale * column : scale * (column + size)]
            weight = scene["weight"].to_numpy()[fine].copy()
            weight[: scale * (y - row)] = 0
            weight[:, : scale * (x - column)] = 0
            if weight.any() and seen[row : row + size, column : column + size].any():
                windows.append((row, column, weight[..., None]))
    return windows


def turn(patch: Patch, symmetry: int) -> Patch:
    """Flip and rotate a patch: images, label and weight together.

    Args:
        patch: a square patch.
        symmetry: which of the 8 symmetries of the square: quarter turns `symmetry % 4`, then transposed from 4 on.

    Example:
        patch = turn(patch, rng.integers(8))
    """

    def turned(array, rows):
        array = np.rot90(array, symmetry % 4, axes=(rows, rows + 1))
        return np.ascontiguousarray(array.swapaxes(rows, rows + 1) if symmetry >= 4 else array)

    return Patch(turned(patch.images, 1), turned(patch.label, 0), turned(patch.weight, 0))


def require_size(scene: xr.Dataset, size: int) -> None:
    """Raise a SpinetError if the scene is smaller than a patch."""
    height, width = scene.sizes["y"], scene.sizes["x"]
    if size > min(height, width):
        raise SpinetError(
            f"Expected a patch of at most {min(height, width)} pixels, the smaller side of "
            f"{scene.attrs.get('name', 'the scene')} ({height}x{width}). Received: {size}"
        )
