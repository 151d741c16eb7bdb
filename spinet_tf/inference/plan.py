"""What a map is made of: two runs whose plans are equal can share their parts."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import xarray as xr

from spinet_tf._version import __version__
from spinet_tf.inference.engine import Engine
from spinet_tf.inference.grid import Grid
from spinet_tf.inference.recipe import Recipe


def make_plan(
    model: keras.Model | Engine | str | os.PathLike,
    engine: Engine,
    scene: xr.Dataset,
    recipe: Recipe,
    side: int,
    means: str,
) -> dict[str, Any]:
    """Describe by JSON what the parts of a map depend on, but for pixels, of which each part has a checksum.

    Args:
        model: as the caller of `predict_scene` gave it.
        engine: what it was opened as.
        scene: with the model's bands only.
        recipe: how the map is made.
        side: of the groups of tiles.
        means: what they are taken over.

    Returns:
        What belongs to the version of this package, the model, the scene and the options, under these names.
    """
    plan = {
        "version": __version__,
        "model": {"bands": list(engine.band_names or ()), "scale": engine.scale, "content": _model_hash(model)},
        "scene": _scene_facts(scene),
        # How many tiles are seen at once changes a map by rounding only.
        "options": {
            "tiling": str(recipe.tiling),
            "choice": str(recipe.choice),
            "side": side,
            "means": means,
            "uncertainty": recipe.uncertainty,
        },
    }
    # As it comes back from a file.
    return json.loads(json.dumps(plan))


def _model_hash(model: keras.Model | Engine | str | os.PathLike) -> str:
    """A hash of the files of a model or of its weights; the name itself where there are none, as of one on a server."""
    if isinstance(model, keras.Model):
        weights = (weight.numpy().tobytes() for weight in model.weights)
        return _hash([json.dumps(model.get_config(), sort_keys=True, default=str).encode(), *weights])
    if not isinstance(model, str | os.PathLike):
        # Nothing is known of it but what it answers.
        noise = np.random.default_rng(0).integers(1, 5000, (1, 2, 8, 8, len(model.band_names or ())), np.uint16)
        answer = model.predict(noise, np.array([2], np.int32))
        return _hash([np.round(answer, 4).tobytes()])
    path = Path(model)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not files[0].is_file():
        return str(model)
    return _hash(content for file in files for content in (str(file.relative_to(path)).encode(), file.read_bytes()))


def _scene_facts(scene: xr.Dataset) -> dict[str, Any]:
    grid = Grid.of_scene(scene)
    return {
        "name": scene.attrs.get("name"),
        "sizes": dict(scene.sizes),
        "bands": [str(name) for name in scene["band"].values],
        "dates": [str(date) for date in scene["time"].values] if "time" in scene.coords else None,
        "crs": grid.crs and grid.crs.to_wkt(),
        "transform": grid.transform and list(grid.transform),
    }


def _hash(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
