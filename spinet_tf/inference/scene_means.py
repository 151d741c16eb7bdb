"""The means that TEFA and TERN take over a scene, before its tiles are predicted with them."""

from dataclasses import replace

import numpy as np
import xarray as xr

from spinet_tf.inference.engine import MeansEngine
from spinet_tf.inference.groups import TileGroup, group_tiles
from spinet_tf.inference.recipe import Recipe
from spinet_tf.inference.windows import UnreadableError, read_window, unread_window
from spinet_tf.progress import progress_bar
from spinet_tf.tiling import SAMPLE, MeanSums, SceneMeans, cut_request, spread_out


def find_scene_means(scene: xr.Dataset, recipe: Recipe, engine: MeansEngine) -> SceneMeans | None:
    """Look at tiles spread over a scene, at all of a small one, for the means that all its tiles are to share.

    Args:
        scene: with the model's bands only.
        recipe: how the map is made.
        engine: the network.

    Returns:
        The means; None if none of these tiles holds data.

    Raises:
        UnreadableError: if none of these tiles can be read; single ones are passed over.
    """
    recipe = replace(recipe, tiling=recipe.tiling.for_means())
    # One tile each.
    groups = spread_out(group_tiles(recipe.tiling, side=1))
    sums = MeanSums(scene.sizes["time"])
    unreadable = []
    with progress_bar("Averaging the scene", min(SAMPLE, len(groups))) as advance:
        for group in groups:
            try:
                _add(sums, scene, recipe, group, engine)
            except UnreadableError as error:
                unreadable.append(error)
                continue
            advance(1)
            if sums.tiles == SAMPLE:
                break
    if sums.tiles:
        return sums.means()
    if unreadable:
        raise unreadable[0]
    return None


def _add(sums: MeanSums, scene: xr.Dataset, recipe: Recipe, group: TileGroup, engine: MeansEngine) -> None:
    series = read_window(unread_window(scene, recipe, group), recipe, group).series
    (tile,) = group.tiles
    request = cut_request(series, recipe.tiling, tile, recipe.choice)
    if request is not None:
        means = engine.find_means(request.images[None], np.array([len(request.images)], np.int32))
        sums.add(means, request.frames)
