"""The runs of the ablations: each trains one network with one seed and scores it on scenes shown in several ways."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from spinet_tf.data.scene import find_scenes, open_scene
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.scene import predict_scene
from spinet_tf.progress import track
from training.ablation_config import BASE, CLOUDY, NO_TERN, AblationConfig
from training.ablation_scenes import drawn, misregistered, shuffled
from training.compare_config import folder_name
from training.compare_runs import RUNS, kept, trained
from training.config import Config
from training.scores import THRESHOLD
from training.scoring import Scorer

# Views of a scene: all frames that are clear enough, all frames at all, and some clear ones in order and shuffled.
CLEAR, ALL, ORDERED, SHUFFLED = "clear frames", "all frames", "ordered", "shuffled"
# Of what is drawn to show a scene, the same for all networks.
_SEED = 0


class Run(NamedTuple):
    """What a run left.

    Attributes:
        network: its name.
        seed: of the run.
        scores: MCC on each scene of the test, by view: those above, and those of `frames_view` and `shifted_view`.
        change: for networks that were shown frames in order and shuffled, the greatest difference of a probability
            on each scene.
    """

    network: str
    seed: int
    scores: Mapping[str, Mapping[str, float]]
    change: Mapping[str, float]


def frames_view(count: int) -> str:
    """The name of the view of so many clear frames."""
    return f"{count} frames"


def shifted_view(sigma: float) -> str:
    """The name of the view of frames that are clear enough, shifted by so many pixels."""
    return f"shifted {sigma:g}"


def run_all(ablations: AblationConfig, output: Path) -> list[Run]:
    """Do the runs that are not done, and read what the others left.

    Args:
        ablations: what to run.
        output: where folders of runs are, or will be.

    Returns:
        The runs, by network and seed.

    Raises:
        SpinetError: if scenes cannot be used, or a run there has other settings.
    """
    scenes = _test_scenes(ablations)
    # All networks with the first seed come first: they are comparable, should time run out.
    order = {
        (seed, name): config
        for seed in dict.fromkeys(seed for seeds in ablations.seeds.values() for seed in seeds)
        for name, config in ablations.networks.items()
        if seed in ablations.seeds[name]
    }
    runs = []
    for (seed, name), config in order.items():
        seeded = dataclasses.replace(config, seed=seed)
        settings = {
            "training": str(ablations.training),
            "test": str(ablations.test),
            "configuration": dataclasses.asdict(seeded),
            "views": list(_views(ablations, name, seeded)),
        }
        run = functools.partial(_train_and_score, ablations, scenes, name, seeded)
        runs.append(Run(name, seed, **kept(output / RUNS / folder_name(name) / f"seed-{seed}", settings, run)))
    return sorted(runs, key=lambda run: (list(ablations.networks).index(run.network), run.seed))


def _test_scenes(ablations: AblationConfig) -> list[xr.Dataset]:
    scenes = [open_scene(path).load() for path in find_scenes(ablations.test)]
    most = _most_frames(ablations)
    for scene in scenes:
        clear = int(scene["valid"].any(("y", "x")).sum())
        if clear < most:
            raise SpinetError(
                f"Expected scenes of at least {most} frames with clear ground, as many as frames and ordered_frames "
                f"ask for. {scene.attrs['name']}: {clear}. Lower them, or choose scenes of more dates."
            )
    return scenes


def _most_frames(ablations: AblationConfig) -> int:
    return max(*ablations.frames, ablations.ordered_frames)


_View = tuple[float, Callable[[xr.Dataset], xr.Dataset]]


def _views(ablations: AblationConfig, name: str, config: Config) -> dict[str, _View]:
    """How a network is shown scenes: by name, the cloud allowed in a frame, and what is done to the scene before.

    Being shown scenes in many ways takes longer than training: further seeds, which tell how much MCC changes by chance
    alone, are shown them in one way only.
    """
    some = functools.partial(drawn, clearest=_most_frames(ablations), seed=_SEED)
    if name == ablations.rival:
        # It may take fewer frames than are clear.
        views: dict[str, _View] = {}
    else:
        views = {ALL if name == CLOUDY else CLEAR: (config.max_cloud, lambda scene: scene)}
    if name != ablations.rival and config.seed != ablations.seeds[name][0]:
        return views
    if name == BASE:
        views[ALL] = (1.0, lambda scene: scene)
        for count in ablations.frames:
            views[frames_view(count)] = (1.0, functools.partial(some, count=count))
    if name in (BASE, ablations.rival):
        few = functools.partial(some, count=ablations.ordered_frames)
        views[ORDERED] = (1.0, few)
        views[SHUFFLED] = (1.0, lambda scene: shuffled(few(scene), _SEED))
    if name in (BASE, NO_TERN):
        for sigma in ablations.misregistration:
            views[shifted_view(sigma)] = (config.max_cloud, functools.partial(misregistered, sigma=sigma, seed=_SEED))
    return views


def _train_and_score(
    ablations: AblationConfig, scenes: list[xr.Dataset], name: str, config: Config, folder: Path
) -> dict[str, Any]:
    print(f"\n{name}, seed {config.seed}")
    engine = KerasEngine(trained(config, ablations.training, folder))
    views = _views(ablations, name, config)
    scores: dict[str, dict[str, float]] = {view: {} for view in views}
    change = {}
    for scene in track(scenes, "Scoring", len(scenes)):
        for view, (max_cloud, shown) in views.items():
            scorer = Scorer(engine, None, max_cloud, False, name, THRESHOLD)
            result, _ = scorer.score(functools.partial(shown, scene))  # type: ignore[arg-type]
            scores[view][result.scene] = result.tallies["model"].score(THRESHOLD).mcc
        if SHUFFLED in views:
            maps = [
                predict_scene(engine, views[view][1](scene), max_cloud=1.0)["probability"].to_numpy()
                for view in (ORDERED, SHUFFLED)
            ]
            change[scene.attrs["name"]] = float(np.nanmax(np.abs(maps[1] - maps[0])))
    return {"scores": scores, "change": change}
