"""The folder that a command writes to."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from spinet_tf.errors import SpinetError


def prepare_output(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Make a folder ready for files and folders of these names; whatever else it holds stays.

    Args:
        folder: made where it does not exist.
        names: what will be written.
        overwrite: whether what exists under these names may be removed.

    Raises:
        SpinetError: if one exists and `overwrite` is false, or the folder cannot be written to.
    """
    earlier = [folder / name for name in names if (folder / name).exists()]
    if earlier and not overwrite:
        raise SpinetError(f"{earlier[0]} exists already. Choose another output or pass --overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in earlier:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Better to fail now than after the work.
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SpinetError(f"Cannot write to {folder}: {error.strerror or error}. Choose a writable folder.") from error
