"""Progress bars on long work, silent when stderr is not a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` while a bar on stderr shows how many are done and how long the rest takes.

    Args:
        items: what to go through; `total` is needed where it has no length.
        description: what is being done, in the present tense: "Predicting tiles".
        total: how many items there are.
    """
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    yield from rich_track(
        items,
        description=description,
        total=total,
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
