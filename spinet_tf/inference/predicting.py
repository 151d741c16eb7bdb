"""What the network says about one group of tiles."""

from collections.abc import Callable, Iterator

import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, takes_means
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.parts import Part
from spinet_tf.inference.recipe import Recipe
from spinet_tf.inference.sizes import tiles_at_once
from spinet_tf.inference.windows import Window
from spinet_tf.tiling import Means, Mosaic, TileRequest, cut_frames, tile_frames


def predict_group(
    window: Window,
    recipe: Recipe,
    group: TileGroup,
    engine: Engine,
    advance: Callable[[int], None] = lambda count: None,
) -> Part:
    """Show a group's tiles to the network, and blend its answers.

    Args:
        window: what the group shows of the scene.
        recipe: how the map is made.
        group: the tiles.
        engine: the network.
        advance: told how many more tiles are done.

    Returns:
        The group's part of the map.

    Raises:
        SpinetError: if the engine refuses a tile, or its answer is none.
    """
    tiling, series = recipe.tiling, window.series
    mosaics = [Mosaic(tiling, group.rows.inside, group.columns.inside) for _ in range(1 + recipe.uncertainty)]
    used = np.zeros((len(group.tiles), len(series.valid)), bool)
    frames = [tile_frames(series, tiling, tile, recipe.choice) for tile in group.tiles]
    lengths = np.array([len(chosen) for chosen in frames])
    # Tiles that no frame holds data for are not shown to the network, and stay without data.
    advance(int(np.count_nonzero(lengths == 0)))
    for numbers in _batches(lengths, tiling.rows.size * tiling.columns.size, recipe.batch):
        tiles = [group.tiles[number] for number in numbers]
        requests = [
            cut_frames(series, tiling, tile, frames[number]) for number, tile in zip(numbers, tiles, strict=True)
        ]
        means = None if recipe.means is None else recipe.means.of_tiles([request.frames for request in requests])
        for number, tile, request, answer in zip(
            numbers, tiles, requests, _answers(engine, requests, means, recipe.uncertainty), strict=True
        ):
            # An answer of one layer goes as it came, so that a wrong shape is noticed.
            layers = [answer[..., :1], answer[..., 1:]] if recipe.uncertainty else [answer]
            for mosaic, layer in zip(mosaics, layers, strict=True):
                mosaic.add(tile, layer, request.counts)
            used[number, request.frames] = True
        advance(len(tiles))
    total, *further = (mosaic.total for mosaic in mosaics)
    return Part(total, mosaics[0].counts, used, window.checksum, *further)


def _batches(lengths: np.ndarray, pixels: int, batch: int | None) -> Iterator[np.ndarray]:
    """Numbers of tiles to be seen together: those with similar numbers of frames, so that few are padding."""
    numbers = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    while numbers.size:
        size = batch or tiles_at_once(pixels, int(lengths[numbers[0]]))
        yield numbers[:size]
        numbers = numbers[size:]


def _answers(engine: Engine, requests: list[TileRequest], means: Means | None, uncertainty: bool) -> np.ndarray:
    num_frames = np.array([len(request.images) for request in requests], np.int32)
    images = np.zeros((len(requests), num_frames.max(), *requests[0].images.shape[1:]), np.uint16)
    for sample, request in zip(images, requests, strict=True):
        sample[: len(request.images)] = request.images
    # Not every engine knows the word.
    wanted = {"uncertainty": True} if uncertainty else {}
    try:
        if means is not None and takes_means(engine):
            answers = engine.predict_with_means(images, num_frames, means, **wanted)
        else:
            answers = engine.predict(images, num_frames, **wanted)
    except SpinetError:
        raise
    # What engines of other packages raise, which do not know this one's error.
    except ValueError as error:
        raise SpinetError(str(error)) from error
    if len(answers) != len(requests):
        raise SpinetError(f"Expected answers to {len(requests)} tiles from the model. Received: {len(answers)}.")
    return answers
