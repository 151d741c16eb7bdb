"""Parts that a run which was killed leaves to the next."""

import fcntl
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.parts import PartFolder, Parts


def parts_folder(output: Path) -> Path:
    """Where the parts of a map lie until it is written: beside it."""
    return output.with_name(f".{output.name}.parts")


@contextmanager
def kept_parts(output: Path, plan: dict[str, Any]) -> Iterator[PartFolder]:
    """Parts of a map in a folder beside it: those of an earlier run with the same plan, or none.

    The folder is removed when the block ends well, and stays when it does not.

    Args:
        output: the map's file.
        plan: as `make_plan` gives it.

    Raises:
        SpinetError: if another process makes this map now, or the folder cannot be written.

    Example:
        with kept_parts(Path("map.tif"), plan) as parts:
            parts.save("0000-0000", part)
    """
    folder = parts_folder(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise SpinetError(f"Cannot write {folder}: {error.strerror or error}. Choose a writable folder.") from error
    with lock:
        try:
            # The system lets go of it however this process ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpinetError(f"Another process is writing {output}. Wait for it, or choose another output.") from error
        parts = PartFolder(folder)
        _keep_what_fits(parts, plan, output)
        yield parts
        # First under another name, so that no run takes what is left of it for its own.
        rubbish = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(rubbish, ignore_errors=True)
        folder.rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)


def begin_anew(parts: Parts, output: Path, changed: Sequence[str]) -> None:
    """Forget parts that belong to another map, and say so.

    Args:
        parts: those of an earlier run.
        output: the map's file.
        changed: what the earlier run had another of.
    """
    warnings.warn(f"{output} was begun with another {' and other '.join(changed)}; it is begun anew.", stacklevel=2)
    parts.clear()


def _keep_what_fits(parts: PartFolder, plan: dict[str, Any], output: Path) -> None:
    path = parts.folder / "plan.json"
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    if earlier == plan:
        return
    # In this order, so that no part is ever taken for one of another plan.
    path.unlink(missing_ok=True)
    if earlier:
        begin_anew(parts, output, [name for name in plan if earlier.get(name) != plan[name]])
    else:
        parts.clear()
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plan, indent=1), encoding="utf-8")
