"""What a run trains and validates on: scenes as they are, or shards that `training.prepare` made of them."""

import dataclasses
from pathlib import Path
from typing import Any

from spinet_tf.data.batches import Batches
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.scene import find_scenes
from spinet_tf.data.scene_batches import SceneBatches, SceneGrid
from spinet_tf.data.shard_batches import GridBatches, ShardBatches
from spinet_tf.data.shards import MANIFEST, Shards
from spinet_tf.errors import SpinetError
from training.config import Config
from training.split import split_scenes
from training.survey import survey_scenes


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Batches, and what the network has to know of them.

    Attributes:
        bands: names of the bands, in the model's order.
        scale: how many times finer labels are than images.
        mean: of each band over the valid pixels that train, reflectance.
        std: standard deviation, likewise.
        patch: height and width of a patch, in pixels of the images.
        steps: updates in an epoch.
        training: batches to train on, without end; `config.accumulate` of them make an update.
        validation: batches that cover what validates once.
        split: what trains and what validates, in words.
    """

    bands: tuple[str, ...]
    scale: int
    mean: list[float]
    std: list[float]
    patch: int
    steps: int
    training: Batches
    validation: GridBatches
    split: str

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these data from others, to notice that a run goes on with others than it began with."""
        return {name: getattr(self, name) for name in ("bands", "scale", "mean", "std", "patch", "steps", "split")} | {
            "validation": self.validation.count
        }


def open_data(config: Config, folder: Path) -> TrainingData:
    """Open what a run trains on, checking it first.

    Args:
        config: names split, bands, patches and how frames are chosen.
        folder: a prepared folder, or scenes, or one scene.

    Returns:
        The data.

    Raises:
        SpinetError: if scenes or shards cannot be used, or are others than the configuration asks for.
    """
    sampling = Sampling(
        config.frames,
        config.frame_count,
        config.max_cloud,
        config.augment,
        config.jitter,
        config.frame_dropout,
        config.balance,
    )
    series = config.model.series
    whole = (
        Sampling("clearest", series, augment=False)
        if series
        else Sampling("all", max_cloud=config.max_cloud, augment=False)
    )
    part = config.batch // config.accumulate
    if (folder / MANIFEST).is_file():
        return _from_shards(config, folder, sampling, whole, part)
    split = split_scenes(find_scenes(folder), config.split, config.validation_scenes)
    survey = survey_scenes(split, config)
    _require_frames(config, survey.frames)
    patch = min(config.patch, survey.smallest)
    if patch < config.patch:
        print(f"Patches of {patch} pixels instead of {config.patch}: the smallest part has no more")
    steps = config.steps or max(survey.pixels // (patch**2 * config.batch), 1)
    batches = SceneBatches(
        split.training, survey.bands, patch, sampling, part, steps * config.accumulate, config.weights, config.seed
    )
    grid = SceneGrid(split.validation, survey.bands, patch, config.weights)
    validation = GridBatches(grid, whole, part, grid.groups)
    return TrainingData(
        survey.bands, survey.scale, survey.mean, survey.std, patch, steps, batches, validation, str(split)
    )


def _from_shards(config: Config, folder: Path, sampling: Sampling, whole: Sampling, part: int) -> TrainingData:
    shards = Shards(folder, config.weights)
    differing = _differences(config, shards)
    if differing:
        raise SpinetError(
            f"{folder} was prepared otherwise than the configuration asks: {'; '.join(differing)}. Run `python -m "
            "training.prepare` with --config and this configuration; what is finished is kept where it fits."
        )
    _require_frames(config, shards.training.clear.shape[1])
    steps = config.steps or max(len(shards.training) // config.batch, 1)
    return TrainingData(
        shards.bands,
        shards.scale,
        shards.mean,
        shards.std,
        shards.patch,
        steps,
        ShardBatches(shards.training, sampling, part, steps * config.accumulate, config.seed),
        GridBatches(shards.validation, whole, part),
        shards.manifest["split"],
    )


def _require_frames(config: Config, most: int) -> None:
    wanted = config.frame_count if isinstance(config.frame_count, int) else max(config.frame_count)
    if config.frames != "all" and wanted > most:
        raise SpinetError(
            f"Expected frame_count of at most {most}, the dates with clear ground in the training scene that has most. "
            f"Received: {wanted}. Lower it, or take all with `frames: all`."
        )


def _differences(config: Config, shards: Shards) -> list[str]:
    scenes = shards.manifest["scenes"]
    held_out = sorted(scene["scene"] for scene in scenes if scene["role"] == "validation")
    by_rows = any(scene["half"] for scene in scenes)
    differences = []
    if config.patch != shards.patch:
        differences.append(f"patches of {shards.patch} pixels, not {config.patch}")
    if config.bands is not None and config.bands != shards.bands:
        differences.append(f"bands {', '.join(shards.bands)}, not {', '.join(config.bands)}")
    if (config.split == "rows") != by_rows and config.split != "auto":
        differences.append(f"split by {'rows' if by_rows else 'scenes'}, not by {config.split}")
    elif not by_rows and not isinstance(config.validation_scenes, int) and held_out != sorted(config.validation_scenes):
        differences.append(f"{', '.join(held_out)} validate, not {', '.join(config.validation_scenes)}")
    return differences
