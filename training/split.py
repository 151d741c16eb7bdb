"""Which scenes, or which halves of them, train and which validate: the same for training and evaluation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from spinet_tf.data.scene import open_scene
from spinet_tf.errors import SpinetError


@dataclasses.dataclass(frozen=True)
class Part:
    """A scene on disk, or half of one. Calling it opens the scene, so it can stand for one in the tf.data pipeline.

    Attributes:
        path: the scene.
        half: "upper" or "lower" rows; None for all.
    """

    path: Path
    half: str | None = None

    def __call__(self) -> xr.Dataset:
        scene = open_scene(self.path)
        if self.half is None:
            return scene
        # Cut before anything is computed, so that nothing of one half can reach the other.
        middle = scene.sizes["y"] // 2
        rows = slice(middle) if self.half == "upper" else slice(middle, None)
        if "y_label" in scene.sizes:
            fine = scene.sizes["y_label"] // scene.sizes["y"] * middle
            scene = scene.isel(y_label=slice(fine) if self.half == "upper" else slice(fine, None))
        scene = scene.isel(y=rows)
        return scene.assign_attrs(name=f"{scene.attrs['name']} ({self.half} half)")


class Split(NamedTuple):
    """What trains and what validates."""

    training: list[Part]
    validation: list[Part]

    def __str__(self) -> str:
        if self.training[0].half:
            return f"the upper half of {_counted(self.training)} trains, the lower half validates"
        names = ", ".join(part.path.stem for part in self.validation)
        train = "trains" if len(self.training) == 1 else "train"
        validate = "validates" if len(self.validation) == 1 else "validate"
        return f"{_counted(self.training)} {train}, {names} {validate}"


def split_scenes(paths: Sequence[Path], split: str = "auto", validation_scenes: int | Sequence[str] = 1) -> Split:
    """Split scenes into those that train and those that validate.

    Args:
        paths: the scenes.
        split: "scenes", "rows" (upper halves train, lower halves validate), or "auto": by scenes where there are two or
            more.
        validation_scenes: how many, the last ones, or the names of those that validate with the split by scenes.

    Returns:
        The parts that train and those that validate; they share no pixel.

    Raises:
        SpinetError: if a scene named does not exist, or none is left to train.

    Example:
        split = split_scenes(find_scenes("train"), "scenes", ["eopatch-902", "eopatch-903"])
    """
    if split == "rows" or (split == "auto" and len(paths) == 1):
        return Split([Part(path, "upper") for path in paths], [Part(path, "lower") for path in paths])
    if isinstance(validation_scenes, int):
        names = [path.stem for path in paths[-validation_scenes:]]
    else:
        names = list(validation_scenes)
    unknown = sorted(set(names) - {path.stem for path in paths})
    if unknown:
        known = ", ".join(path.stem for path in paths)
        raise SpinetError(f"Expected validation scenes out of {known}. Received: {', '.join(unknown)}")
    training = [path for path in paths if path.stem not in names]
    if not training:
        raise SpinetError(
            f"Expected scenes to train on beside {len(names)} to validate on. Received: {_counted(paths)}. Add scenes, "
            "lower validation_scenes, or split by rows."
        )
    return Split([Part(path) for path in training], [Part(path) for path in paths if path.stem in names])


def _counted(items: Sequence) -> str:
    return f"{len(items)} scene{'' if len(items) == 1 else 's'}"
