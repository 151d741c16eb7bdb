"""Writing files so that no half-written one is ever left."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinet_tf.errors import SpinetError


@contextmanager
def replacing(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    The block writes a file or creates a folder at the temporary path, whose name keeps the suffix of `path`.

    Args:
        path: the final file or folder. Its parent folders are created.
        overwrite: whether an existing file or folder may be replaced.

    Raises:
        SpinetError: if `path` exists and `overwrite` is false, or is a folder where a file was written or the other
            way round, or the parent folder cannot be written.

    Example:
        with replacing("out/map.json") as temporary:
            temporary.write_text("{}")
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise SpinetError(f"{path} exists already. Choose another output or pass --overwrite.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise SpinetError(f"Cannot write {path}: {error.strerror or error}. Choose a writable folder.") from error
    try:
        temporary = folder / path.name
        yield temporary
        if path.exists() and path.is_dir() != temporary.is_dir():
            kinds = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise SpinetError(f"{path} is a {kinds[0]}, and a {kinds[1]} would replace it. Choose another output.")
        if temporary.is_file():
            # Or a power cut could leave the new name with nothing behind it.
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            # A folder cannot be renamed over a full one: move the old one aside first.
            path.rename(folder / "replaced")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_remains(path: str | os.PathLike) -> None:
    """Remove what processes that were killed while `replacing` wrote `path` have left. No other may be writing it."""
    path = Path(path)
    for folder in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 8}"):
        shutil.rmtree(folder, ignore_errors=True)
