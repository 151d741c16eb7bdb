"""A scene into a map."""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import xarray as xr

from spinet_tf.data.scene import select_bands
from spinet_tf.errors import SpinetError
from spinet_tf.files import remove_remains
from spinet_tf.inference.assembly import assemble
from spinet_tf.inference.engine import Engine, MeansEngine, as_engine, gives_uncertainty, takes_means
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.groups import TileGroup, fitting_side, group_tiles
from spinet_tf.inference.outputs import Outputs
from spinet_tf.inference.parts import PartMemory, Parts
from spinet_tf.inference.plan import make_plan
from spinet_tf.inference.recipe import Recipe, make_tiling
from spinet_tf.inference.restart import begin_anew, kept_parts
from spinet_tf.inference.results import map_in_memory, map_on_disk, map_paths
from spinet_tf.inference.running import Outcome, run_here
from spinet_tf.inference.scene_means import find_scene_means
from spinet_tf.inference.sizes import fitting_tile
from spinet_tf.inference.windows import UnreadableError, read_window, require_clear_ground, require_scene, unread_window
from spinet_tf.progress import progress_bar
from spinet_tf.tiling import TILE, FrameChoice, MeansOf, Method, SceneMeans, require_means

if TYPE_CHECKING:
    from distributed import Client


def predict_scene(
    model: keras.Model | Engine | str | os.PathLike,
    scene: xr.Dataset,
    output: str | os.PathLike | None = None,
    *,
    frames: Method = "all",
    count: int = 20,
    max_cloud: float = 0.25,
    tile: int | None = None,
    overlap: int | None = None,
    seam_free: bool | int = False,
    means: MeansOf = "scene",
    uncertainty: bool = False,
    valid_frames: bool = False,
    threshold: float | None = None,
    dtype: str = "float32",
    polygons: str | os.PathLike | None = None,
    min_area: float = 0.1,
    simplify: float = 1.5,
    quicklook: str | os.PathLike | None = None,
    stac_item: str | os.PathLike | None = None,
    batch: int | None = None,
    dask: "str | Client | None" = None,
    overwrite: bool = False,
) -> xr.Dataset:
    """Map the probability of cultivated land over a scene of any size.

    The scene is read, computed and written by blocks of about 512 x 512 pixels, so memory does not grow with it. The
    blocks do not change the map. With `output`, finished ones are kept beside it until all are: after a failure, an
    interruption or a kill the same call goes on from there.

    Args:
        model: a Keras model such as `SPInet`, any engine with `predict`, `band_names` and `scale`, or what
            `open_engine` opens: a file, a preset's name, an address.
        scene: as `open_scene` gives it; its bands are matched to the model's by name.
        output: the GeoTIFF to write; without it the map is returned in memory. The other layers are written beside it,
            map_uncertainty.tif beside map.tif for example.
        frames: which frames the model sees of each tile: "all" with at most `max_cloud` of cloud in the 500 x 500
            pixels around it, or the `count` "clearest" there. A window of `seam_free` is judged by itself.
        count: how many frames "clearest" keeps.
        max_cloud: the greatest part without clear ground that "all" accepts.
        tile: the greatest side of the tiles that the model sees, in pixels of the scene; when None 128, or less where
            memory is too small for that.
        overlap: the least overlap of neighbouring tiles, over which they are blended; a quarter of a tile when None.
        seam_free: instead of tiles, the model sees windows at fixed places of the CRS, 32 pixels wide or as many as
            given here, the patches it was trained on. Then the map at a place is the same whatever the area around
            it, at four times the cost.
        means: what TEFA and TERN take their means over, if the model has them: the "scene", so that tiles are answered
            as the scene would be as a whole, or each "tile" for itself, which saves a look at up to 16 tiles before
            the first is predicted. Windows of `seam_free` have their own.
        uncertainty: whether there is a layer of uncertainty too: of a model that gives it the standard deviation of the
            probability, 0 to 0.5, see `spinet_tf.models.answers.uncertainty`, blended as the probability is; of others
            the binary entropy of the probability, 0 sure, 1 undecided. The layer's `long_name` and the files' tag
            UNCERTAINTY say which.
        valid_frames: whether the number of frames is a layer too, of those that the model saw, that show clear ground;
            on the scene's own grid.
        threshold: if given, the class is a layer too: 1 where the probability exceeds it, 0 elsewhere, 255 no data.
        dtype: of the probability and the uncertainty in files: "float32", or "uint8" for steps of 1 / 254.
        polygons: with `output`, write the cultivated land to this .gpkg, .fgb or .parquet too, where the probability
            exceeds the threshold, or 0.5 without one.
        min_area: the smallest polygon, in hectares.
        simplify: what outlines are smoothed by, in pixels of the map; 0 for not at all.
        quicklook: with `output`, draw the map beside the clearest image in this .png.
        stac_item: with `output`, describe all files in this STAC item, a .json.
        batch: how many tiles the model sees at once; as many as a training step of the paper when None.
        dask: the address of a dask scheduler, or a client of one: workers compute blocks, this process writes.
        overwrite: whether existing files may be replaced.

    Returns:
        `probability` (y, x) float32 on a grid `scale` times finer, with the scene's CRS and exact coordinates (none
        where the scene has none); NaN where no chosen frame holds data. Where asked for, `uncertainty` (y, x) float32,
        `class` (y, x) uint8 and `valid_frames` (y_scene, x_scene) uint16. With `output` they are read from the files
        when needed. Attributes: `name` of the scene, `engine`, `frames` (the numbers of all frames used), `dates`
        (theirs), `frames_per_tile` (least and most), `tiles`, `tile` (height and width), `means` ("scene" or "tile"),
        `blocks`, `resumed` (how many blocks an earlier run had finished), `files` (all that were written).

    Raises:
        SpinetError: if the scene lacks a band of the model or has no valid frame, the model does not name its bands,
            an option is out of range, parts of the scene cannot be read, or the output cannot be written.

    Example:
        predict_scene("best.keras", open_scene("eopatch-902"), "map.tif", threshold=0.5)
    """
    if polygons is not None and threshold is None:
        threshold = 0.5
    require_scene(scene)
    _require_options(threshold, dtype, batch, means)
    outputs = None
    if output is not None:
        rasters = map_paths(output, uncertainty, valid_frames, threshold)
        outputs = Outputs(rasters, polygons, min_area, simplify, quicklook, stac_item)
        outputs.require_possible(Grid.of_scene(scene), overwrite)
    elif polygons is not None or quicklook is not None or stac_item is not None:
        raise SpinetError("Expected an output for the map, from which polygons, quicklook and STAC item are made.")
    choice = FrameChoice(frames, count, max_cloud)
    engine = as_engine(model)
    if engine.band_names is None:
        raise SpinetError(
            "The model does not name its bands, so the scene's cannot be matched to them. Give SPInet the names: "
            'SPInet(bands=("B02", "B03", ...)).'
        )
    # A picture wants more bands than the model does.
    whole, scene = scene, select_bands(scene, engine.band_names)
    if tile is None:
        most = scene.sizes["time"]
        tile = TILE if seam_free else fitting_tile(engine, min(count, most) if frames == "clearest" else most)
    tiling = make_tiling(Grid.of_scene(scene), engine.scale, tile, overlap, seam_free)
    own_uncertainty = uncertainty and gives_uncertainty(engine)
    recipe = Recipe(tiling, choice, batch, uncertainty=own_uncertainty)
    side = fitting_side(scene.sizes["time"], scene.sizes["band"])
    groups = group_tiles(tiling, side)
    require_clear_ground(scene, groups)

    # One tile is the scene.
    share = means == "scene" and not seam_free and len(tiling.tiles) > 1
    sharing = engine if share and takes_means(engine) else None
    keeping: AbstractContextManager[Parts] = nullcontext(PartMemory())
    if outputs is not None:
        plan = make_plan(model, engine, scene, recipe, side, "tile" if sharing is None else "scene")
        keeping = kept_parts(outputs.rasters["probability"], plan)
    with keeping as parts:
        for file in outputs.files.values() if outputs is not None else ():
            remove_remains(file)
        if outputs is not None and not _still_the_same(scene, groups, recipe, parts):
            begin_anew(parts, outputs.rasters["probability"], ["scene"])
        resumed = len(parts.finished())
        if sharing is not None:
            recipe = replace(recipe, means=_scene_means(scene, recipe, sharing, parts))
        _compute(scene, groups, recipe, model, engine, dask, parts)
        facts = {
            "name": scene.attrs.get("name", "scene"),
            "engine": str(model) if isinstance(model, str | os.PathLike) else type(engine).__name__,
            **_frames_used(scene, parts),
            "tiles": len(tiling.tiles),
            "tile": [tiling.rows.size, tiling.columns.size],
            "means": "tile" if recipe.means is None else "scene",
            "blocks": len(groups),
            "resumed": resumed,
        }
        layers = ["probability", *["uncertainty"] * uncertainty, *["frames"] * valid_frames]
        blocks = assemble(parts, groups, tiling, layers, own_uncertainty=own_uncertainty)
        grid = Grid.of_scene(scene, engine.scale)
        if outputs is None:
            result = map_in_memory(blocks, grid, engine.scale, layers, threshold, own_uncertainty)
            return result.assign_attrs(facts)
        result = map_on_disk(blocks, grid, engine.scale, outputs.rasters, threshold, dtype, facts, own_uncertainty)
        # While the parts are still there: what fails here is made from them by the next run.
        dates = scene["time"].values[facts["frames"]] if "time" in scene.coords else ()
        outputs.write_further(whole, dates, {"model": facts["engine"], "scene": facts["name"]})
        return result.assign_attrs(files=[str(path) for path in outputs.files.values()])


def _require_options(threshold: float | None, dtype: str, batch: int | None, means: str) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise SpinetError(f"Expected a threshold from 0 to 1. Received: {threshold}")
    if dtype not in ("float32", "uint8"):
        raise SpinetError(f"Expected the dtype float32 or uint8. Received: {dtype}")
    if batch is not None and batch < 1:
        raise SpinetError(f"Expected a batch of at least 1 tile. Received: {batch}")
    require_means(means)


def _still_the_same(scene: xr.Dataset, groups: Sequence[TileGroup], recipe: Recipe, parts: Parts) -> bool:
    """Whether the pixels that an earlier run has read are what they were: those of one block, read again."""
    finished = parts.finished()
    for group in groups:
        if group.name in finished:
            frames, checksum = parts.facts(group.name)
            # Where nothing was seen, little can change.
            if frames.any():
                try:
                    return read_window(unread_window(scene, recipe, group), recipe, group).checksum == checksum
                except UnreadableError:
                    return True
    return True


def _scene_means(scene: xr.Dataset, recipe: Recipe, engine: MeansEngine, parts: Parts) -> SceneMeans | None:
    """The means that an earlier run has found, if it has finished parts with them; or new ones."""
    found = parts.means() if parts.finished() else None
    if found is None:
        try:
            found = find_scene_means(scene, recipe, engine)
        except UnreadableError as error:
            name = scene.attrs.get("name", "the scene")
            raise SpinetError(f"Cannot read {name}, {str(error).rstrip('.')}.") from error
        if found is not None:
            parts.save_means(found)
    return found


def _compute(
    scene: xr.Dataset,
    groups: Sequence[TileGroup],
    recipe: Recipe,
    model: keras.Model | Engine | str | os.PathLike,
    engine: Engine,
    dask: "str | Client | None",
    parts: Parts,
) -> None:
    """Compute and keep the parts that are not finished yet."""
    finished = parts.finished()
    todo = [group for group in groups if group.name not in finished]
    total = sum(len(group.tiles) for group in groups)
    done = total - sum(len(group.tiles) for group in todo)
    with progress_bar("Predicting tiles", total, done) as advance:
        if dask is None or not todo:
            unreadable = _keep(run_here(scene, todo, recipe, engine, advance), parts)
        else:
            from spinet_tf.inference.cluster import connected, run_on

            sent = model
            if isinstance(model, str | os.PathLike):
                # Workers may have other working directories.
                sent = os.path.abspath(model) if os.path.exists(model) else str(model)
            with connected(dask) as client:
                unreadable = _keep(run_on(client, scene, todo, recipe, sent, advance), parts)
    if unreadable:
        rest = f" The other {len(groups) - len(unreadable)} are kept: the same call tries only these again."
        raise SpinetError(
            f"Cannot read {scene.attrs.get('name', 'the scene')}, {str(unreadable[0]).rstrip('.')}. "
            f"{len(unreadable)} of {len(groups)} blocks could not be read.{rest if parts.outlive else ''}"
        )


def _keep(outcomes: Iterable[Outcome], parts: Parts) -> list[UnreadableError]:
    unreadable = []
    for group, outcome in outcomes:
        if isinstance(outcome, UnreadableError):
            unreadable.append(outcome)
        else:
            parts.save(group.name, outcome)
    return unreadable


def _frames_used(scene: xr.Dataset, parts: Parts) -> dict[str, Any]:
    used = np.zeros(scene.sizes["time"], bool)
    lengths: set[int] = set()
    for name in parts.finished():
        frames, _ = parts.facts(name)
        used |= frames.any(axis=0)
        lengths.update(np.unique(frames.sum(axis=1)).tolist())
    # Tiles without data were shown to nobody.
    lengths.discard(0)
    numbers = np.flatnonzero(used)
    # Without dates, frames have their numbers only.
    dates = [str(date)[:10] for date in scene["time"].values[numbers]] if "time" in scene.coords else []
    return {
        "frames": numbers.tolist(),
        "dates": dates,
        "frames_per_tile": [min(lengths, default=0), max(lengths, default=0)],
    }
