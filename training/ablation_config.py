"""What the ablations are made of: one YAML file, checked before anything is computed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinet_tf.errors import SpinetError
from training.ablation_networks import MEAN_ATTENTION, WITHOUT_TERN, ablated
from training.compare_config import Simulated, read_folders, read_seeds, require_keys, with_steps
from training.config import Config, read_settings, read_yaml

BASE, NO_TERN, MEAN, CLOUDY = "SPInet", "without TERN", "mean instead of attention", "with cloudy frames"
# Networks that differ in more than chance does, if the paper is right, are trained with all seeds.
_ALL_SEEDS = (BASE, NO_TERN, MEAN)

_KEYS = ("data", "steps", "batch", "seeds", "training", "rival", "bands", "frames", "ordered_frames", "misregistration")


@dataclasses.dataclass(frozen=True)
class AblationConfig:
    """What to train, and how to look at the scenes of the test.

    Attributes:
        training: folder of the scenes that train and validate.
        test: folder of the scenes that are scored.
        simulated: how these are simulated where they lack scenes.
        networks: the configuration of each network by its name; its seed is one of `seeds`.
        seeds: of the runs of each network, by its name.
        rival: name of the network that depends on the order of frames.
        bands: names of the networks of fewer bands.
        frames: numbers of frames to look at; they are drawn from as many of the clearest as the greatest of them.
        ordered_frames: how many are shuffled.
        misregistration: deviations of shifts to add, in pixels.
    """

    training: Path
    test: Path
    simulated: Mapping[Path, Simulated]
    networks: Mapping[str, Config]
    seeds: Mapping[str, tuple[int, ...]]
    rival: str
    bands: tuple[str, ...]
    frames: tuple[int, ...]
    ordered_frames: int
    misregistration: tuple[float, ...]


def load_ablations(path: Path) -> AblationConfig:
    """Read and check the YAML file of the ablations.

    Args:
        path: the file: `data` as `training.compare_config.load_comparison` has it, `steps` and `batch` of each run,
            `seeds`, optionally `fewer_seeds` (of networks other than SPInet, that without TERN and that with a mean),
            `training` (settings of `training.config.Config`, those of SPInet under `model`), `rival` (one network by
            its name, with its settings), `bands` (lists of names, by name), `frames`, `ordered_frames` and
            `misregistration`.

    Returns:
        The ablations.

    Raises:
        SpinetError: if the file cannot be read, or a key or a value is wrong.

    Example:
        load_ablations(Path("training/configs/ablations_cpu.yaml")).networks["without TERN"]
    """
    content, where = read_yaml(path), str(path)
    require_keys(content, where, _KEYS, ("fewer_seeds",))
    folders, simulated = read_folders(content["data"], f"{where}: data")
    for name in ("training", "rival", "bands"):
        if not (isinstance(content[name], Mapping) and content[name]):
            raise SpinetError(f"{where}: {name}: expected keys and values. Received: {content[name]!r}")
    if len(content["rival"]) != 1:
        raise SpinetError(f"{where}: rival: expected one network by its name. Received: {len(content['rival'])}")
    rival, rivals_model = next(iter(content["rival"].items()))
    bands = content["bands"]
    names = (BASE, NO_TERN, MEAN, *map(str, bands), CLOUDY, str(rival))
    if len(set(names)) < len(names):
        raise SpinetError(f"{where}: expected names of networks that all differ: {', '.join(names)}")
    common = {**content["training"], "batch": content["batch"]}
    settings = {
        f"{where}: training": {BASE: common, CLOUDY: {**common, "max_cloud": 1.0}},
        f"{where}: bands": {str(name): {**common, "bands": names} for name, names in bands.items()},
        f"{where}: rival": {str(rival): {**common, "model": rivals_model}},
    }
    networks = {
        name: read_settings(Config, given, place) for place, those in settings.items() for name, given in those.items()
    }
    base = networks[BASE]
    if base.model.system != "spinet" or base.model.uncertainty or base.start is not None or base.bands is not None:
        raise SpinetError(
            f"{where}: training: expected a new SPInet of all bands, without uncertainty, whose parts can be left out."
        )
    networks |= {NO_TERN: ablated(base, WITHOUT_TERN), MEAN: ablated(base, MEAN_ATTENTION)}
    if networks[str(rival)].model.series:
        raise SpinetError(
            f"{where}: rival: expected a network that takes any number of frames. Received: {rivals_model}"
        )
    seeds = read_seeds(content["seeds"], f"{where}: seeds")
    fewer = read_seeds(content.get("fewer_seeds", list(seeds)), f"{where}: fewer_seeds")
    steps = _numbers([content["steps"]], int, f"{where}: steps")[0]
    return AblationConfig(
        training=folders["training"],
        test=folders["test"],
        simulated=simulated,
        networks={name: with_steps(networks[name], steps) for name in names},
        seeds={name: seeds if name in _ALL_SEEDS else fewer for name in names},
        rival=str(rival),
        bands=tuple(map(str, bands)),
        frames=_numbers(content["frames"], int, f"{where}: frames"),
        ordered_frames=_numbers([content["ordered_frames"]], int, f"{where}: ordered_frames")[0],
        misregistration=_numbers(content["misregistration"], float, f"{where}: misregistration"),
    )


def _numbers(values: Any, kind: type, where: str) -> tuple:
    """Numbers above 0: whole ones, or with a fraction."""
    kinds = (int,) if kind is int else (int, float)
    if not (isinstance(values, list) and values and all(type(value) in kinds and value > 0 for value in values)):
        described = "whole numbers" if kind is int else "numbers"
        raise SpinetError(f"{where}: expected {described} above 0. Received: {values!r}")
    return tuple(sorted({kind(value) for value in values}))
