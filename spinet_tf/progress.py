"""Progress bars on long work, silent when stderr is not a terminal."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` while a bar on stderr shows how many are done and how long the rest takes.

    Bars inside each other appear below each other.

    Args:
        items: what to go through; `total` is needed where it has no length.
        description: what is being done, in the present tense: "Predicting tiles".
        total: how many items there are.

    Example:
        for path in track(paths, "Reading scenes"): ...
    """
    with progress_bar(description, len(items) if total is None and isinstance(items, Sized) else total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress_bar(description: str, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the block runs; the function it yields is told how much more is done.

    Args:
        description: as in `track`.
        total: how much there is to do.
        done: how much of that was done before; it does not count for the time left.

    Example:
        with progress_bar("Predicting", total=100) as advance:
            advance(10)
    """
    with _display() as display:
        task = display.add_task(description, total=total, completed=done)
        try:
            yield lambda count: display.advance(task, count)
        finally:
            display.remove_task(task)


_lock = threading.Lock()
_shown: list["Progress"] = []
_bars = 0


@contextmanager
def _display() -> Iterator["Progress"]:
    """The one place on the screen that all bars of this process share, for as long as there are any."""
    global _bars
    with _lock:
        if not _shown:
            _shown.append(_new_display())
            _shown[0].start()
        _bars += 1
        display = _shown[0]
    try:
        yield display
    finally:
        with _lock:
            _bars -= 1
            if not _bars:
                _shown.clear()
                display.stop()


def _new_display() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # What is printed appears above the bars, but must reach a file or a pipe where stdout is one.
        redirect_stdout=sys.stdout.isatty(),
        # Steps may take minutes.
        speed_estimate_period=1800,
    )
