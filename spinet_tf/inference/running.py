"""Groups of tiles computed one after the other in this process."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest

import xarray as xr

from spinet_tf.inference.engine import Engine
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.parts import Part
from spinet_tf.inference.predicting import predict_group
from spinet_tf.inference.recipe import Recipe
from spinet_tf.inference.windows import UnreadableError, Window, read_window, unread_window

Outcome = tuple[TileGroup, Part | UnreadableError]


def run_here(
    scene: xr.Dataset, groups: Sequence[TileGroup], recipe: Recipe, engine: Engine, advance: Callable[[int], None]
) -> Iterator[Outcome]:
    """Compute the parts of some groups. While the network looks at one, the next is read.

    Args:
        scene: with the model's bands only.
        groups: of tiles.
        recipe: how the map is made.
        engine: the network.
        advance: told how many more tiles are done.

    Yields:
        Each group with its part, or with why it cannot be read.

    Raises:
        SpinetError: if the engine fails.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:

        def read(group: TileGroup) -> Future[Window]:
            return reader.submit(read_window, unread_window(scene, recipe, group), recipe, group)

        coming = deque(read(group) for group in groups[:1])
        for group, following in zip_longest(groups, groups[1:]):
            current = coming.popleft()
            if following is not None:
                coming.append(read(following))
            try:
                window = current.result()
            except UnreadableError as error:
                advance(len(group.tiles))
                yield group, error
                continue
            part = predict_group(window, recipe, group, engine, advance)
            # Not held while the one after the next is read.
            del window, current
            yield group, part
