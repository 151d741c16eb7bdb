"""Damaged HDF5 files: a process of their own meets them first."""

import atexit
import os
import selectors
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from spinet_tf.errors import SpinetError

# Seconds that a file may take; good ones take milliseconds, also large ones.
_PATIENCE = 60


def require_readable_hdf5(path: Path) -> None:
    """Refuse an HDF5 file that cannot be opened, or would crash this process or hold it up without end.

    The HDF5 library, which NetCDF files are read with, trusts what it reads: of a thousand files with random damage a
    few end the process that opens them. So another process opens the file first; it stays, for the files to come.

    Raises:
        SpinetError: if the other process refuses the file, dies of it, or takes too long.

    Example:
        require_readable_hdf5(Path("scene.nc"))
    """
    try:
        status = path.stat()
        _require_readable(str(path.resolve()), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise SpinetError(f"{path} cannot be read: {error}.") from error


@lru_cache(maxsize=1024)
def _require_readable(path: str, changed: int, size: int) -> None:
    """Once for each state of a file: errors are not remembered."""
    if "\n" in path:
        raise SpinetError(f"Expected the path of a file without line breaks. Received: {path!r}.")
    answer = _PROBE.ask(path)
    if answer != "ok":
        raise SpinetError(f"{path} cannot be read: {answer}. Copy or download it again.")


class _Probe:
    """The other process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0
        atexit.register(self._stop)

    def ask(self, path: str) -> str:
        with self._lock:
            question, answers = self._pipes()
            question.write(f"{path}\n".encode())
            question.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(answers, selectors.EVENT_READ)
                answered = selector.select(_PATIENCE)
            answer = answers.readline().decode(errors="replace") if answered else ""
            if answer.endswith("\n"):
                return answer.strip()
            self._stop()
            return "the HDF5 library crashes on it" if answered else f"the HDF5 library takes more than {_PATIENCE} s"

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """The process's input and output; it is started unless it runs and is this process's own, not its parent's."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            command = [sys.executable, str(Path(__file__).with_name("hdf5_probe.py"))]
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._owner = os.getpid()
        return cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def _stop(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None


_PROBE = _Probe()
