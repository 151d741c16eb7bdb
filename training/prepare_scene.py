"""One scene to shards: what `training.prepare` does in each of its processes."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from spinet_tf.data.patches import Weights, grid_windows, label_scale, labelled, read_patch
from spinet_tf.data.scene import open_scene, require_valid_frames
from spinet_tf.data.shard_writer import StoredPatch, write_shard
from spinet_tf.data.shards import FORMAT, VERSION
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from training.moments import Moments
from training.split import Part

# Bytes of images read at once. A scene of the challenge takes a quarter of it; larger ones are read in strips.
_STRIP = 1 << 30


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides what a shard holds, besides the scene.

    Attributes:
        patch: height and width of a patch, in pixels of the images.
        bands: names of the bands, in the order of the last axis of images.
        weights: what label pixels weigh, "ai4eo" or "scene".
    """

    patch: int
    bands: tuple[str, ...]
    weights: Weights


class SceneTask(NamedTuple):
    """A scene to prepare.

    Attributes:
        parts: the scene, or its halves.
        settings: what the shards hold.
        folder: where to write them.
    """

    parts: list[Part]
    settings: Settings
    folder: Path


class SceneResult(NamedTuple):
    """What became of a scene.

    Attributes:
        scene: its name.
        problem: why it cannot be used; empty when it was prepared.
        warnings: what else there is to say about it.
    """

    scene: str
    problem: str
    warnings: list[str]


class _UnusableError(SpinetError):
    """The scene cannot be used, which does not keep others from being."""


def prepare_scene(task: SceneTask) -> SceneResult:
    """Write the shards of one scene: for each part NAME.tfrecord, NAME.npz, and, last, NAME.json.

    Args:
        task: the scene.

    Returns:
        Whether it was done. A scene that cannot be used leaves nothing.

    Raises:
        SpinetError: if the folder cannot be written to.
    """
    scene = task.parts[0].scene
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problem = ""
        try:
            _prepare(task)
        except _UnusableError as error:
            problem = str(error)
        except OSError as error:
            raise SpinetError(f"Cannot write to {task.folder}: {error.strerror or error}.") from error
    return SceneResult(scene, problem, [str(warning.message) for warning in caught])


def fingerprint(path: Path) -> str:
    """Tells whether a scene's files are the same as before, by their names, sizes and times of modification."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [(file.relative_to(path).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def file_entry(path: Path) -> dict[str, Any]:
    """Size and checksum of a file, as the manifest has them."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON, which appears whole, and stays when the power is cut."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def _prepare(task: SceneTask) -> None:
    path = task.parts[0].path
    with _reading(path):
        before = fingerprint(path)
        scene = open_scene(path)
    for part in task.parts:
        shard, index, record = (task.folder / f"{part.name}{suffix}" for suffix in (".tfrecord", ".npz", ".json"))
        with replacing(shard) as temporary, replacing(index) as temporary_index:
            with _reading(path):
                opened = _OpenPart(part, scene, task.settings)
            counts = write_shard(temporary, temporary_index, opened.patches())
            with _reading(path):
                if fingerprint(path) != before:
                    raise SpinetError(f"{path} changed while it was read. Run the same command again.")
            files = {shard.name: file_entry(temporary), index.name: file_entry(temporary_index)}
            # An earlier record says nothing of the files that now take their names.
            record.unlink(missing_ok=True)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "name": part.name,
            "scene": part.scene,
            "half": part.half,
            "fingerprint": before,
            "settings": dataclasses.asdict(task.settings),
            "scale": opened.scale,
            "counts": counts,
            "moments": dataclasses.asdict(Moments.sum(opened.moments)),
            "files": files,
        }
        write_json(record, content)


class _OpenPart:
    """Part of an open scene: gives its patches, and meanwhile measures its bands."""

    def __init__(self, part: Part, scene: xr.Dataset, settings: Settings):
        self._part, self._size = part, settings.patch
        self._first_row = part.rows(scene.sizes["y"]).start
        scene = part.cut(scene)
        # Where nothing is to choose, choosing would copy the images.
        bands = None if tuple(scene["band"].values) == settings.bands else settings.bands
        # By uniform weights every known pixel belongs to a window, those that weigh nothing in the score too.
        self._scene = labelled(scene, bands)
        require_valid_frames(self._scene)
        self._weight = labelled(scene, bands, settings.weights)["weight"].to_numpy()
        self._windows = grid_windows(self._scene, settings.patch)
        if not self._windows:
            raise SpinetError(
                f"{scene.attrs['name']} has no window of {settings.patch}x{settings.patch} pixels with both a clear "
                "pixel and a known label. Leave this scene out."
            )
        self.scale = label_scale(self._scene)
        self.moments: list[Moments] = []

    def patches(self) -> Iterator[StoredPatch]:
        dates = np.empty(0, "int64")
        if "time" in self._scene.coords:
            dates = self._scene["time"].to_numpy().astype("datetime64[s]").astype("int64")
        for rows, first, strip in self._strips():
            for row, column, counted in self._windows:
                # The windows of the last row, moved up to the edge, belong where they would have begun.
                if -(-row // self._size) * self._size in rows:
                    yield self._patch(strip, first, row, column, counted[..., 0] > 0, dates)

    def _strips(self) -> Iterator[tuple[range, int, xr.Dataset]]:
        """Rows, and what is needed of the scene to cut the windows that begin there: its first row, and the scene."""
        scene, size = self._scene, self._size
        height = scene.sizes["y"]
        of_a_row = scene["bands"].nbytes // height * size
        step = max(_STRIP // of_a_row, 1) * size
        for top in range(0, height, step):
            bottom = min(top + step, height)
            first = min(top, height - size)
            fine = slice(self.scale * first, self.scale * bottom)
            with _reading(self._part.path):
                strip = scene.isel(y=slice(first, bottom), y_label=fine).compute()
            valid, bands = strip["valid"].to_numpy()[:, top - first :], strip["bands"].variable[:, :, top - first :]
            self.moments += [Moments.of(bands[frame].to_numpy(), valid[frame]) for frame in range(len(valid))]
            yield range(top, bottom), first, strip

    def _patch(
        self, strip: xr.Dataset, first: int, row: int, column: int, counted: np.ndarray, dates: np.ndarray
    ) -> StoredPatch:
        size, scale = self._size, self.scale
        above = row - first
        valid = strip["valid"].variable[:, above : above + size, column : column + size].to_numpy()
        clear = np.count_nonzero(valid, axis=(1, 2))
        frames = np.flatnonzero(clear)
        patch = read_patch(strip, above, column, size, frames)
        weight = self._weight[scale * row : scale * (row + size), scale * column : scale * (column + size)]
        return StoredPatch(
            patch.images,
            clear[frames],
            dates[frames] if dates.size else dates,
            np.where(counted, patch.label[..., 0], np.uint8(255)),
            np.where(counted, weight, np.float32(0)),
            self._part.scene,
            self._first_row + row,
            column,
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors in here are the scene's."""
    try:
        yield
    except SpinetError as error:
        raise _UnusableError(str(error)) from error
    except Exception as error:  # the readers raise dozens of types
        raise _UnusableError(f"{path} cannot be read: {error!r}. Copy or download it again.") from error
