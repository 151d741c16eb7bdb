"""The runs of a comparison: each trains one system with one seed, scores it, and leaves a file that says so."""

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import xarray as xr

from spinet_tf.data.patches import label_scale, labelled
from spinet_tf.data.scene import clear_fraction, find_scenes
from spinet_tf.data.shards import MANIFEST
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.inference.scene import predict_scene
from spinet_tf.metrics import MatthewsCorrelation
from spinet_tf.models.ndvi import NDVIThresholds
from spinet_tf.progress import track
from spinet_tf.tiling.frames import choose_frames
from training.checkpoint import FILE
from training.compare_config import CompareConfig, folder_name, with_steps
from training.config import Config
from training.cost import count_macs, measure_step
from training.data import open_data
from training.network import build_model
from training.pictures import CLASS_COLOURS, class_picture, photo, true_colour
from training.results import NDVI_THRESHOLD
from training.scores import THRESHOLD, Score, Truth, mean_score
from training.scoring import Scorer, ndvi_inputs
from training.split import Part, split_scenes
from training.train import train

RESULT = "result.json"
RUNS = "runs"
# The first scenes are drawn.
DRAWN = 3


class Run(NamedTuple):
    """What a run left.

    Attributes:
        system: its name.
        seed: of the run; None where nothing is random.
        parameters: that training changes.
        macs: multiply-accumulates of a forward pass for one training patch; None for NDVI thresholds.
        steps: updates; 0 for NDVI thresholds.
        seconds_per_km2: what mapping a scene takes.
        scenes: the scores on each scene of the test.
    """

    system: str
    seed: int | None
    parameters: int
    macs: int | None
    steps: int
    seconds_per_km2: float
    scenes: Mapping[str, Score]

    @property
    def mean(self) -> Score:
        """The mean of each score over the scenes."""
        return mean_score(list(self.scenes.values()))


@dataclasses.dataclass(frozen=True)
class ClearestFrames:
    """A scene of no more frames than a network of a fixed length takes: the clearest. Calling it opens the scene."""

    part: Part
    count: int

    def __call__(self) -> xr.Dataset:
        scene = self.part()
        return scene.isel(time=choose_frames(clear_fraction(scene), "clearest", self.count))


def run_all(comparison: CompareConfig, output: Path) -> list[Run]:
    """Do the runs that are not done, and read what the others left.

    Args:
        comparison: what to run.
        output: where folders of runs are, or will be.

    Returns:
        The runs, by system and seed.

    Raises:
        SpinetError: if scenes cannot be used, or a run there has other settings.
    """
    parts = [Part(path) for path in find_scenes(comparison.test)]
    draw_scenes(parts[:DRAWN], output)
    runs = []
    for system, config in comparison.systems.items():
        folder = output / RUNS / folder_name(system)
        if config is None:
            run = functools.partial(_ndvi, comparison, parts, system)
            runs.append(_as_run(kept(folder, {"fit": str(comparison.fit), "test": str(comparison.test)}, run)))
            continue
        budget = comparison.budget
        if budget.minutes is not None:
            config = with_steps(config, _steps_for(60 * budget.minutes, config, comparison.training, folder))
        for seed in comparison.seeds:
            seeded = dataclasses.replace(config, seed=seed)
            settings = {
                "training": str(comparison.training),
                "test": str(comparison.test),
                "configuration": dataclasses.asdict(seeded),
            }
            run = functools.partial(_train_and_score, comparison, parts, system, seeded)
            runs.append(_as_run(kept(folder / f"seed-{seed}", settings, run)))
    return runs


def training_parts(comparison: CompareConfig) -> list[Part]:
    """The scenes that train, without those that validate the networks; all of them where there are no networks."""
    if (comparison.fit / MANIFEST).is_file():
        raise SpinetError(
            f"{comparison.fit} holds shards, which NDVI thresholds and super-resolution cannot learn from. Name the "
            "folder of the scenes that they were made of under data: fit."
        )
    paths = find_scenes(comparison.fit)
    network = next(filter(None, comparison.systems.values()), None)
    return split_scenes(paths, network.split, network.validation_scenes).training if network else list(map(Part, paths))


def draw_scenes(parts: Iterable[Part], output: Path) -> None:
    """Draw what the satellite saw and the truth of scenes that are not drawn yet."""
    for part in parts:
        folder = output / "scenes" / part.name
        if not (folder / "truth.png").is_file():
            scene = labelled(part())
            label = scene["label"].to_numpy()
            _save(photo(true_colour(scene)[0]), folder / "true_colour.png")
            _save(class_picture(np.where(label == 255, 2, label == 1), CLASS_COLOURS), folder / "truth.png")


def kept(folder: Path, settings: Mapping[str, Any], run: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """What a finished run left in a folder; the run is done now if it is not.

    Args:
        folder: of the run.
        settings: all that decides what it gives.
        run: does it, given the folder; what it returns is kept as JSON.

    Raises:
        SpinetError: if the folder holds a run of other settings, or a damaged one.
    """
    path = folder / RESULT
    finished = path.is_file()
    if not finished:
        content = {"settings": settings, **run(folder)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        before = content.pop("settings")
    except (OSError, ValueError, KeyError) as error:
        raise SpinetError(f"{path} is damaged ({error}). Remove {folder} and run the same command again.") from error
    # As JSON has them: without tuples.
    if before != json.loads(json.dumps(settings)):
        raise SpinetError(
            f"{folder} holds a run of other settings. Choose another output, or remove the folder to run it again."
        )
    if finished:
        print(f"Kept {path}")
    return content


def trained(config: Config, data: Path, folder: Path) -> keras.Model:
    """The best model of a training run in a folder, which is done now or goes on if it has been interrupted."""
    keras.utils.clear_session()
    # Without a checkpoint nothing of an earlier try is worth keeping.
    train(config, data, folder, overwrite=not (folder / FILE).is_file())
    keras.utils.clear_session()
    return load_model(folder / "best.keras")


def _as_content(run: Run) -> dict[str, Any]:
    return {**run._asdict(), "scenes": {name: dataclasses.asdict(score) for name, score in run.scenes.items()}}


def _as_run(content: Mapping[str, Any]) -> Run:
    return Run(**{**content, "scenes": {name: Score(**score) for name, score in content["scenes"].items()}})


def _train_and_score(
    comparison: CompareConfig, parts: list[Part], system: str, config: Config, folder: Path
) -> dict[str, Any]:
    print(f"\n{system}, seed {config.seed}")
    model = trained(config, comparison.training, folder)
    series = config.model.series
    # A network of a fixed length sees its frames however cloudy, as in training.
    max_cloud = 1.0 if series else config.max_cloud
    scorer = Scorer(KerasEngine(model), None, max_cloud, False, system, THRESHOLD)
    scenes = {}
    for number, part in enumerate(track(parts, "Scoring", len(parts))):
        result, pictures = scorer.score(ClearestFrames(part, series) if series else part)  # type: ignore[arg-type]
        scenes[result.scene] = result.tallies["model"].score(THRESHOLD)
        if number < DRAWN:
            drawn = next(picture.image for picture in pictures if picture.title.startswith("Map"))
            _save(drawn, folder / f"{part.name}.png")
    frames = series or (config.frame_count if isinstance(config.frame_count, int) else config.frame_count[1])
    found = Run(
        system=system,
        seed=config.seed,
        parameters=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        macs=count_macs(model, 1, frames, config.patch),
        steps=(config.steps or 0) * config.epochs,
        seconds_per_km2=_mapping_time(scorer, parts[0], series),
        scenes=scenes,
    )
    return _as_content(found)


def _mapping_time(scorer: Scorer, part: Part, series: int | None) -> float:
    """Seconds that a scene takes to be mapped once its graphs are built, for each square kilometre."""
    scene = part().load()
    start = time.perf_counter()
    if series:
        predict_scene(scorer.engine, scene, frames="clearest", count=series)
    else:
        predict_scene(scorer.engine, scene, max_cloud=scorer.max_cloud)
    return (time.perf_counter() - start) / _square_kilometres(scene)


def _ndvi(comparison: CompareConfig, parts: list[Part], system: str, folder: Path) -> dict[str, Any]:
    print(f"\n{system}")
    fitted = training_parts(comparison)
    scale = label_scale(labelled(parts[0]()))
    opened = (ndvi_inputs(labelled(part())) for part in track(fitted, "Fitting NDVI thresholds", len(fitted)))
    thresholds = NDVIThresholds(scale=scale).fit(opened)
    print(f"NDVI from {thresholds.low:.3f} to {thresholds.high:.3f}")
    scenes, seconds = {}, []
    for number, part in enumerate(track(parts, "Scoring", len(parts))):
        scene = labelled(part()).load()
        start = time.perf_counter()
        found = thresholds.predict(*ndvi_inputs(scene)[:3])
        seconds.append((time.perf_counter() - start) / _square_kilometres(scene))
        clear = scene["valid"].sum("time").to_numpy().repeat(scale, axis=0).repeat(scale, axis=1)
        tally = Truth(scene["label"].to_numpy(), clear).tally(found, [NDVI_THRESHOLD])
        scenes[scene.attrs["name"]] = tally.score(NDVI_THRESHOLD)
        if number < DRAWN:
            _save(class_picture(found, CLASS_COLOURS), folder / f"{part.name}.png")
    return _as_content(Run(system, None, 2, None, 0, statistics.median(seconds), scenes))


def _steps_for(seconds: float, config: Config, data: Path, folder: Path) -> int:
    """How many updates fit into so much time; measured once and kept, so that the same command goes on with it."""
    path = folder / "steps.json"
    if not path.is_file():
        opened = open_data(dataclasses.replace(config, steps=1), data)
        model = build_model(dataclasses.replace(config, steps=1), opened, MatthewsCorrelation(from_logits=True))
        frames = config.frame_count if isinstance(config.frame_count, int) else config.frame_count[1]
        part = config.batch // config.accumulate
        cost = measure_step(model, part, frames, opened.patch, opened.scale)
        measured = {"seconds_per_step": cost.seconds * config.accumulate}
        measured["steps"] = max(int(seconds / measured["seconds_per_step"]), 1)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))["steps"]


def _square_kilometres(scene: xr.Dataset) -> float:
    """The area of a scene; of one without coordinates as if its pixels were 10 m wide."""
    sides = [
        abs(float(scene[axis][1] - scene[axis][0])) if axis in scene.coords and scene.sizes[axis] > 1 else 10.0
        for axis in ("y", "x")
    ]
    return scene.sizes["y"] * sides[0] * scene.sizes["x"] * sides[1] / 1e6


def _save(image: Any, path: Path) -> None:
    with replacing(path) as temporary:
        image.save(temporary)
