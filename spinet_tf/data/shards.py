"""Prepared data: TFRecord shards of patches, of which single frames are read at random. NumPy only.

`python -m training.prepare` writes the folder that `Shards` opens:

- manifest.json: what there is, with the size and checksum of every file; it is written last;
- shards/NAME.tfrecord, one for each scene or half of one: ordinary TFRecords of `tf.train.Example`, for any program;
- shards/NAME.npz: where in the shard each patch has its frames, and how clear they are;
- shards/NAME.json: the scene's part of the manifest, written last of the three.

The features of an example, T frames of P x P pixels, labels S times finer:

- images: bytes, uint16 little-endian (T, P, P, bands), digital numbers. Of the scene's frames only those with a clear
  pixel in the window are there;
- shape: int64 (4,), that of the images;
- clear: float (T,), the clear fraction of each frame in the window;
- date: int64 (T,), seconds since 1970 in UTC; empty where the dates are unknown;
- label: bytes, uint8 (S * P, S * P), 1 cultivated, 0 not, 255 unknown or counted by a window before;
- weight: bytes, float32 little-endian (S * P, S * P), what each label pixel weighs; 0 where the label is 255;
- scene: bytes, the name; row and column: int64, of the window's first pixel in the scene's images.

    features = {
        "images": tf.io.FixedLenFeature((), tf.string),
        "shape": tf.io.FixedLenFeature((4,), tf.int64),
        "clear": tf.io.FixedLenSequenceFeature((), tf.float32, allow_missing=True),
        "date": tf.io.FixedLenSequenceFeature((), tf.int64, allow_missing=True),
        "label": tf.io.FixedLenFeature((), tf.string),
        "weight": tf.io.FixedLenFeature((), tf.string),
        "scene": tf.io.FixedLenFeature((), tf.string),
        "row": tf.io.FixedLenFeature((), tf.int64),
        "column": tf.io.FixedLenFeature((), tf.int64),
    }
    example = tf.io.parse_single_example(record, features)
    images = tf.reshape(tf.io.decode_raw(example["images"], tf.uint16), example["shape"])
"""

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spinet_tf.data.patches import Patch, Weights
from spinet_tf.errors import SpinetError

FORMAT = "spinet_tf shards"
VERSION = 1
MANIFEST = "manifest.json"
SHARDS = "shards"

_ADVICE = "Run python -m training.prepare again."
_REPLACE = f"Delete it. {_ADVICE}"

# Bytes between two wanted parts of a file up to which reading them is quicker than another call, and where they go.
_GAP = 1 << 12
_UNWANTED = np.empty(_GAP, "uint8")
# Buffers in one call: POSIX systems take 1024.
_BUFFERS = 1000


class UnreadableError(SpinetError):
    """A file that holds nothing, or something else than it should."""


class Patches(Protocol):
    """Patches that can be read one by one, in any order and from several threads.

    Attributes:
        clear: float (patches, most frames), the clear fraction of each stored frame; 0 beyond a patch's frames.
    """

    clear: np.ndarray

    def __len__(self) -> int: ...

    def name(self, number: int, /) -> str:
        """Which patch that is, for messages: "eopatch-153 at row 32, column 64"."""
        ...

    def read(self, number: int, frames: np.ndarray, /) -> Patch:
        """The patch with these of its stored frames only, int64 (frames,), ascending."""
        ...


class PatchSet(Patches, Protocol):
    """Patches of which it is also known what their labels hold.

    Attributes:
        cultivated: float64 (patches,), how many label pixels are cultivated.
        known: float64 (patches,), how many are cultivated or not; the others are unknown.
    """

    cultivated: np.ndarray
    known: np.ndarray


class ShardPatches:
    """The patches of some shards, one after the other: a `PatchSet`. `Shards` makes them.

    Each read opens its shard anew, which takes a few microseconds: no file stays open however many shards there are,
    threads and forked processes share nothing, and a shard that is cut off while it is used raises an error, where a
    memory map would end the process.
    """

    def __init__(self, names: Sequence[str], files: Sequence[Path], shape: Sequence[int], scale: int, weighted: bool):
        self._names, self._files, self._shape = tuple(names), tuple(files), tuple(shape)
        self._fine = (scale * shape[0], scale * shape[1], 1)
        self._weighted = weighted
        indices = [read_index(file, self._shape, self._fine) for file in files]
        widest = max(index["clear"].shape[1] for index in indices)
        for index in indices:
            index["clear"] = np.pad(index["clear"], ((0, 0), (0, widest - index["clear"].shape[1])))
        self._shard = np.repeat(np.arange(len(indices)), [len(index["frames"]) for index in indices])
        merged = {key: np.concatenate([index[key] for index in indices]) for key in indices[0]}
        # In float64, as a scene gives it: a rounded fraction could fall on the other side of a limit.
        self.clear: np.ndarray = merged.pop("clear") / (shape[0] * shape[1])
        self.cultivated: np.ndarray = merged.pop("cultivated").astype("float64")
        self.known: np.ndarray = merged.pop("known").astype("float64")
        self._at = merged

    def __len__(self) -> int:
        return len(self._shard)

    def name(self, number: int) -> str:
        at = self._at
        return f"{self._names[self._shard[number]]} at row {at['row'][number]}, column {at['column'][number]}"

    def read(self, number: int, frames: np.ndarray) -> Patch:
        stored = self._at["frames"][number]
        if np.any(frames < 0) or np.any(frames >= stored):
            raise IndexError(f"{self.name(number)} has {stored} frames. Asked for: {frames}")
        images = np.empty((len(frames), *self._shape), "<u2")
        label = np.empty(self._fine, "uint8")
        first = int(self._at["images"][number])
        wanted = [
            *((first + frame * image.nbytes, image) for frame, image in zip(frames.tolist(), images, strict=True)),
            (int(self._at["label"][number]), label),
        ]
        if self._weighted:
            weight = np.empty(self._fine, "<f4")
            wanted.append((int(self._at["weight"][number]), weight))
        _read(self._files[self._shard[number]], wanted)
        if not self._weighted:
            weight = (label != 255).astype("float32")
        return Patch(images.astype("uint16", copy=False), (label == 1).astype("uint8"), weight)


class Shards:
    """A prepared folder, checked when it is opened.

    Args:
        folder: what `python -m training.prepare` wrote.
        weights: what label pixels weigh: "uniform" 1, "ai4eo" or "scene" what was stored, which must be that.

    Attributes:
        folder: the folder.
        manifest: what manifest.json says, a dict.
        bands: names of the bands, in the order of the last axis of images.
        scale: how many times finer labels are than images.
        patch: height and width of a patch, in pixels of the images.
        mean: of each band over the valid pixels of what trains, reflectance.
        std: standard deviation, likewise.
        training: the patches that train, a `PatchSet`.
        validation: those that validate.

    Raises:
        SpinetError: if the folder is none, was written in another version of the format, is not complete, or a file
            has another size than when it was written; or it holds other weights.

    Example:
        shards = Shards("prepared")
        patches = shards.training
        patch = patches.read(0, choose_frames(patches.clear[0], "clearest"))
    """

    def __init__(self, folder: str | os.PathLike, weights: Weights = "uniform"):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        try:
            self._read(weights)
        except (KeyError, TypeError, AttributeError) as error:
            raise SpinetError(
                f"{self.folder / MANIFEST} lacks what it should hold, or holds another type ({error!r}). {_ADVICE}"
            ) from error

    def _read(self, weights: Weights) -> None:
        manifest = self.manifest
        if weights not in ("uniform", manifest["weights"]):
            raise SpinetError(
                f"{self.folder} holds the weights {manifest['weights']!r}, besides 'uniform'. Asked for: {weights!r}. "
                f"Prepare the scenes with --weights {weights}."
            )
        self.bands: tuple[str, ...] = tuple(manifest["bands"])
        self.scale: int = manifest["scale"]
        self.patch: int = manifest["patch"]
        self.mean: list[float] = manifest["mean"]
        self.std: list[float] = manifest["std"]
        for scene in manifest["scenes"]:
            for name, file in scene["files"].items():
                require_bytes(self.folder / SHARDS / name, file["bytes"])
        self.training = self._patches("training", weights)
        self.validation = self._patches("validation", weights)

    def _patches(self, role: str, weights: Weights) -> ShardPatches:
        scenes = [scene for scene in self.manifest["scenes"] if scene["role"] == role]
        if not scenes:
            raise SpinetError(f"{self.folder / MANIFEST} names no scenes for {role}. {_ADVICE}")
        return ShardPatches(
            [scene["name"] for scene in scenes],
            [self.folder / SHARDS / f"{scene['name']}.tfrecord" for scene in scenes],
            (self.patch, self.patch, len(self.bands)),
            self.scale,
            weighted=weights != "uniform",
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a prepared folder's manifest.json holds.

    Raises:
        SpinetError: if there is none, it cannot be read, or it was written in another version of the format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = " Preparing it was not finished." if (folder / SHARDS).is_dir() else ""
        raise SpinetError(f"Expected a folder that training.prepare wrote. There is no {path}.{unfinished} {_ADVICE}")
    return read_record(path)


def read_record(path: Path) -> dict[str, Any]:
    """What one of the JSON files holds.

    Raises:
        UnreadableError: if it is no JSON.
        SpinetError: if it was written by something else, or in another version of the format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} cannot be read: {error}. {_ADVICE}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SpinetError(f"{path} was not written by training.prepare. Choose another folder.")
    if content.get("version") != VERSION:
        raise SpinetError(
            f"{path} has version {content.get('version')} of the format. Expected {VERSION}. Prepare the scenes again."
        )
    return content


def require_bytes(path: Path, size: int) -> None:
    """Raise a SpinetError unless the file exists and has that size."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise SpinetError(f"{path} is missing ({error.strerror}). {_ADVICE}") from error
    if found != size:
        raise SpinetError(f"{path} has {found} bytes. Expected {size}: it is cut off or damaged. {_REPLACE}")


def read_index(shard: Path, shape: Sequence[int], fine: Sequence[int]) -> dict[str, np.ndarray]:
    """The index beside a shard, checked against the shard's size.

    Args:
        shard: the .tfrecord file.
        shape: of one frame, (height, width, bands).
        fine: of the label, (height, width, 1).

    Returns:
        For each patch: `images`, `label` and `weight`, their first bytes in the shard; `frames`, how many; `clear`
        (patches, most frames), the number of clear pixels in each; `row` and `column`; `cultivated` and `known`, how
        many label pixels are.

    Raises:
        SpinetError: if it cannot be read, or points beyond the end of the shard.
    """
    path = shard.with_name(f"{shard.name.removesuffix('.tfrecord')}.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = dict(arrays)
        size = shard.stat().st_size
        pixels = int(np.prod(fine))
        ends = {
            "images": index["frames"].astype("int64") * int(np.prod(shape)) * 2,
            "label": pixels,
            "weight": 4 * pixels,
        }
        whole = all(np.all((index[key] >= 0) & (index[key] + end <= size)) for key, end in ends.items())
        whole &= bool(np.all(index["frames"] <= index["clear"].shape[1]))
        _ = [index[key] for key in ("row", "column", "cultivated", "known")]
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SpinetError(f"{path} cannot be read: {error}. {_REPLACE}") from error
    if not whole:
        raise SpinetError(f"{path} points beyond the end of {shard.name}: one of them is damaged. {_REPLACE}")
    return index


def _read(path: Path, wanted: Sequence[tuple[int, np.ndarray]]) -> None:
    """Fill arrays with what a file holds from these positions on.

    Python's threads wait for each other at every call of the system, so what lies near together comes in one call, with
    what lies between.
    """
    calls: list[tuple[int, list[memoryview]]] = []
    end = -_GAP - 1
    for position, array in sorted(wanted, key=lambda item: item[0]):
        if position - end > _GAP or len(calls[-1][1]) > _BUFFERS:
            calls.append((position, []))
        elif position > end:
            calls[-1][1].append(_UNWANTED[: position - end].data)
        calls[-1][1].append(array.data)
        end = position + array.nbytes
    file = os.open(path, os.O_RDONLY)
    try:
        for position, buffers in calls:
            size = sum(buffer.nbytes for buffer in buffers)
            if os.preadv(file, buffers, position) != size:
                raise SpinetError(f"{path} ends before byte {position + size}: it was cut off. {_ADVICE}")
    finally:
        os.close(file)
