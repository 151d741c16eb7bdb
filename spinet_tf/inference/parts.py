"""Parts of a map: what each group of tiles adds to it, in memory or in files that outlive the process."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import h5py
import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.tiling import SceneMeans


@dataclass(frozen=True)
class Part:
    """What a group of tiles adds to the map over the pixels that it covers.

    Attributes:
        total: int32 (scale * height, scale * width), see `spinet_tf.tiling.Mosaic`; where groups overlap, their totals
            are added.
        counts: int16 (height, width), see there; where groups overlap, the greatest counts.
        frames: bool (tiles, time), which frames of the scene each tile was shown.
        checksum: of what was read of the scene for it.
        uncertainty: the network's own, like `total`; None where it was not asked for.
    """

    total: np.ndarray
    counts: np.ndarray
    frames: np.ndarray
    checksum: int
    uncertainty: np.ndarray | None = None


class Parts(Protocol):
    """Where parts are kept, each under the name of its group.

    Attributes:
        outlive: whether they are still there when this process has ended.
    """

    outlive: bool

    def finished(self) -> set[str]:
        """The names of the parts that are here."""

    def save(self, name: str, part: Part) -> None:
        """Keep a part."""

    def window(self, name: str, rows: slice, columns: slice, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """A rectangle of a part's total and counts; rows and columns count the scene's pixels from the part's first."""

    def uncertainty(self, name: str, rows: slice, columns: slice, scale: int) -> np.ndarray:
        """The same rectangle of its uncertainty, where it has one."""

    def facts(self, name: str) -> tuple[np.ndarray, int]:
        """A part's frames and checksum."""

    def save_means(self, means: SceneMeans) -> None:
        """Keep the means that all parts are made with."""

    def means(self) -> SceneMeans | None:
        """Those means; None where there are none."""

    def clear(self) -> None:
        """Forget all parts."""


class PartMemory:
    """Parts in memory."""

    outlive = False

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._means: SceneMeans | None = None

    def finished(self) -> set[str]:
        return set(self._parts)

    def save(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def window(self, name: str, rows: slice, columns: slice, scale: int) -> tuple[np.ndarray, np.ndarray]:
        part = self._parts[name]
        return part.total[_fine(rows, scale), _fine(columns, scale)], part.counts[rows, columns]

    def uncertainty(self, name: str, rows: slice, columns: slice, scale: int) -> np.ndarray:
        return cast("np.ndarray", self._parts[name].uncertainty)[_fine(rows, scale), _fine(columns, scale)]

    def facts(self, name: str) -> tuple[np.ndarray, int]:
        part = self._parts[name]
        return part.frames, part.checksum

    def save_means(self, means: SceneMeans) -> None:
        self._means = means

    def means(self) -> SceneMeans | None:
        return self._means

    def clear(self) -> None:
        self._parts.clear()


class PartFolder:
    """Parts in a folder, one file each, which comes into being whole or not at all.

    Args:
        folder: it exists.
    """

    outlive = True

    def __init__(self, folder: Path):
        self.folder = folder
        self._means_path = folder / "means.npz"

    def finished(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.h5")}

    def save(self, name: str, part: Part) -> None:
        # Through memory: HDF5 cannot be trusted to let go of a file that it failed to write.
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            # With checksums, as a disk may lie for days before the rest is computed.
            options = {"chunks": True, "compression": "lzf", "shuffle": True, "fletcher32": True}
            file.create_dataset("total", data=part.total, **options)
            if part.uncertainty is not None:
                file.create_dataset("uncertainty", data=part.uncertainty, **options)
            file.create_dataset("counts", data=part.counts, **options)
            file.create_dataset("frames", data=part.frames, **options)
            file.attrs["checksum"] = part.checksum
        self._write(self._path(name), content)

    def window(self, name: str, rows: slice, columns: slice, scale: int) -> tuple[np.ndarray, np.ndarray]:
        with self._open(name) as file:
            return file["total"][_fine(rows, scale), _fine(columns, scale)], file["counts"][rows, columns]

    def uncertainty(self, name: str, rows: slice, columns: slice, scale: int) -> np.ndarray:
        with self._open(name) as file:
            return file["uncertainty"][_fine(rows, scale), _fine(columns, scale)]

    def facts(self, name: str) -> tuple[np.ndarray, int]:
        with self._open(name) as file:
            return file["frames"][:], int(file.attrs["checksum"])

    def save_means(self, means: SceneMeans) -> None:
        content = io.BytesIO()
        np.savez(content, blocks=means.blocks, frames=means.frames)
        self._write(self._means_path, content)

    def means(self) -> SceneMeans | None:
        try:
            with open(self._means_path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                return SceneMeans(file["blocks"], file["frames"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            self.clear()
            raise SpinetError(
                f"{self._means_path} was damaged: {error}. It is removed, with what was made with it; run the same "
                "command again."
            ) from error

    def clear(self) -> None:
        for path in [*self.folder.glob("*.h5"), self._means_path]:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, content: io.BytesIO) -> None:
        try:
            with replacing(path, overwrite=True) as temporary:
                temporary.write_bytes(content.getbuffer())
        except OSError as error:
            raise SpinetError(
                f"Cannot write {path}: {error.strerror or error}. Make room for it; then the same command goes on "
                "from the parts that are finished."
            ) from error

    @contextmanager
    def _open(self, name: str) -> Iterator[h5py.File]:
        path = self._path(name)
        try:
            with h5py.File(path) as file:
                yield file
        except (OSError, KeyError) as error:
            path.unlink(missing_ok=True)
            raise SpinetError(f"{path} was damaged: {error}. It is removed; run the same command again.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.h5"


def _fine(pixels: slice, scale: int) -> slice:
    return slice(scale * pixels.start, scale * pixels.stop)
