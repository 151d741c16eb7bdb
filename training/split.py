"""Which scenes, or which halves of them, train and which validate: the same for training and evaluation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from spinet_tf.data.scene import open_scene
from spinet_tf.errors import SpinetError

# The scenes of the AI4EO challenge that Valsesia & Magli, IGARSS 2022, hold out of training.
PAPER_VALIDATION = tuple(f"eopatch-{number}" for number in (902, 903, 904, 905, 907, 908, 914, 915, 916, 924))


@dataclasses.dataclass(frozen=True)
class Part:
    """A scene on disk, or half of one. Calling it opens the scene, so it can stand for one in the tf.data pipeline.

    Attributes:
        path: the scene.
        half: "upper" or "lower" rows; None for all.
    """

    path: Path
    half: str | None = None

    @property
    def scene(self) -> str:
        """Name of the scene, that of its folder or of its file without .nc or .zarr."""
        return self.path.stem if self.path.suffix in (".nc", ".zarr") else self.path.resolve().name

    @property
    def name(self) -> str:
        """A name for files made of this part."""
        return self.scene if self.half is None else f"{self.scene}-{self.half}"

    def rows(self, height: int) -> slice:
        """The rows of this part in a scene of that height."""
        if self.half is None:
            return slice(0, height)
        middle = height // 2
        return slice(0, middle) if self.half == "upper" else slice(middle, height)

    def __call__(self) -> xr.Dataset:
        return self.cut(open_scene(self.path))

    def cut(self, scene: xr.Dataset) -> xr.Dataset:
        """The rows of this part, out of the open scene."""
        if self.half is None:
            return scene
        # Cut before anything is computed, so that nothing of one half can reach the other.
        rows = self.rows(scene.sizes["y"])
        if "y_label" in scene.sizes:
            fine = scene.sizes["y_label"] // scene.sizes["y"]
            scene = scene.isel(y_label=slice(fine * rows.start, fine * rows.stop))
        return scene.isel(y=rows).assign_attrs(name=f"{scene.attrs['name']} ({self.half} half)")


class Split(NamedTuple):
    """What trains and what validates."""

    training: list[Part]
    validation: list[Part]

    def __str__(self) -> str:
        if self.training[0].half:
            return f"the upper half of {_counted(self.training)} trains, the lower half validates"
        names = ", ".join(part.scene for part in self.validation)
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
        SpinetError: if a scene named does not exist, none is left to train, or two scenes have the same name.

    Example:
        split = split_scenes(find_scenes("train"), "scenes", ["eopatch-902", "eopatch-903"])
    """
    scenes = {Part(path).scene: path for path in paths}
    if len(scenes) < len(paths):
        twice = next(path for path in paths if scenes[Part(path).scene] != path)
        raise SpinetError(
            f"Expected scenes of different names. Received: {twice.name} and {scenes[Part(twice).scene].name}. Rename "
            "one of them."
        )
    if split == "rows" or (split == "auto" and len(paths) == 1):
        return Split([Part(path, "upper") for path in paths], [Part(path, "lower") for path in paths])
    names = list(scenes)[-validation_scenes:] if isinstance(validation_scenes, int) else list(validation_scenes)
    unknown = sorted(set(names) - set(scenes))
    if unknown:
        raise SpinetError(f"Expected validation scenes out of {', '.join(scenes)}. Received: {', '.join(unknown)}")
    training = [path for name, path in scenes.items() if name not in names]
    if not training:
        raise SpinetError(
            f"Expected scenes to train on beside {len(names)} to validate on. Received: {_counted(paths)}. Add scenes, "
            "lower validation_scenes, or split by rows."
        )
    return Split([Part(path) for path in training], [Part(path) for name, path in scenes.items() if name in names])


def default_validation(paths: Sequence[Path]) -> int | tuple[str, ...]:
    """Which scenes validate where nobody says so: the paper's ten where they are all there, else the last one."""
    return PAPER_VALIDATION if set(PAPER_VALIDATION) <= {Part(path).scene for path in paths} else 1


def _counted(items: Sequence) -> str:
    return f"{len(items)} scene{'' if len(items) == 1 else 's'}"
