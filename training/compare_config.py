"""What a comparison is made of: one YAML file, checked before anything is computed."""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from spinet_tf.bands import BANDS
from spinet_tf.errors import SpinetError
from training.config import Config, number, one_of, read_settings, read_yaml, whole

NDVI = "ndvi"


@dataclasses.dataclass(frozen=True)
class Simulated:
    """Scenes that are simulated where their folder lacks them, see `spinet_tf.data.simulate.synthesize`."""

    count: Annotated[int, whole(1)] = 4
    size: Annotated[int, whole(1)] = 128
    dates: Annotated[int, whole(1)] = 20
    seed: Annotated[int, whole(0)] = 1


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every system is given to learn with.

    Attributes:
        steps: updates of each system; None where `minutes` says it.
        minutes: of training for each system, turned into updates by timing a few; validation not counted.
        batch: patches of an update.
    """

    steps: Annotated[int | None, whole(1)] = None
    minutes: Annotated[float | None, number(0, low_included=False)] = None
    batch: Annotated[int, whole(1)] = 4


@dataclasses.dataclass(frozen=True)
class SuperResolution:
    """PIUnet on its own task: one band of 10 m from images of 30 m.

    Attributes:
        band: which.
        steps: updates.
        epochs: parts of the run, after each of which it is saved; the first has the registered L1 loss.
        batch: patches of an update.
        patch: height and width of a patch, in pixels of 30 m, of whose edges the loss leaves out one.
        frames: images of a series.
        learning_rate: Adam's at first; it falls to 0 along a cosine.
        filters: see `spinet_tf.PIUnet`, as for the next two.
        tefa_blocks: see there.
        bottleneck: see there.
    """

    band: Annotated[str, one_of(*BANDS)] = "B08"
    steps: Annotated[int, whole(1)] = 500
    epochs: Annotated[int, whole(1)] = 5
    batch: Annotated[int, whole(1)] = 4
    patch: Annotated[int, whole(4)] = 16
    frames: Annotated[int, whole(1)] = 9
    learning_rate: Annotated[float, number(0, low_included=False)] = 1e-3
    filters: Annotated[int, whole(1)] = 42
    tefa_blocks: Annotated[int, whole(1)] = 16
    bottleneck: Annotated[int, whole(1)] = 5


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """A comparison.

    Attributes:
        training: folder of the scenes that train and validate, or of shards that training.prepare made of them.
        test: folder of the scenes that are scored.
        fit: scenes that NDVI thresholds are fitted on, of which those that validate are left out.
        simulated: how `training` and `test` are simulated where they lack scenes.
        budget: what every system is given.
        seeds: of the runs of each system.
        systems: the configuration of each system by its name; None for NDVI thresholds.
        super_resolution: PIUnet's own table; None for none.
    """

    training: Path
    test: Path
    fit: Path
    simulated: Mapping[Path, Simulated]
    budget: Budget
    seeds: tuple[int, ...]
    systems: Mapping[str, Config | None]
    super_resolution: SuperResolution | None


def load_comparison(path: Path) -> CompareConfig:
    """Read and check the YAML file of a comparison.

    Args:
        path: the file: `data`, `budget`, `seeds`, `training` (settings of `training.config.Config` for all systems),
            `systems` (by name: settings of `training.config.ModelConfig`, or `system: ndvi`, and under `training` what
            differs from the others'), and `super_resolution`.

    Returns:
        The comparison.

    Raises:
        SpinetError: if the file cannot be read, or a key or a value is wrong.

    Example:
        load_comparison(Path("training/configs/compare_cpu.yaml")).systems["SPInet"]
    """
    content = read_yaml(path)
    where = str(path)
    require_keys(content, where, ("data", "budget", "seeds", "training", "systems"), ("super_resolution",))
    data = content["data"]
    folders, simulated = read_folders(data, f"{where}: data", ("fit",))
    budget = read_settings(Budget, content["budget"], f"{where}: budget")
    if (budget.steps is None) == (budget.minutes is None):
        raise SpinetError(f"{where}: budget: expected steps or minutes, one of them. Received: {content['budget']}")
    wanted = content.get("super_resolution")
    return CompareConfig(
        training=folders["training"],
        test=folders["test"],
        fit=Path(str(data.get("fit", data["training"]))),
        simulated=simulated,
        budget=budget,
        seeds=read_seeds(content["seeds"], f"{where}: seeds"),
        systems=_read_systems(content["systems"], content["training"], budget, where),
        super_resolution=read_settings(SuperResolution, wanted, f"{where}: super_resolution") if wanted else None,
    )


def read_folders(data: Any, where: str, others: tuple[str, ...] = ()) -> tuple[dict[str, Path], dict[Path, Simulated]]:
    """The folders "training" and "test" that a file names, and how they are simulated; `others` are keys allowed."""
    require_keys(data, where, ("training", "test"), (*others, "simulated"))
    folders = {name: Path(str(data[name])) for name in ("training", "test")}
    simulated = data.get("simulated") or {}
    require_keys(simulated, f"{where}: simulated", (), tuple(folders))
    return folders, {
        folders[name]: read_settings(Simulated, settings, f"{where}: simulated: {name}")
        for name, settings in simulated.items()
    }


def read_seeds(seeds: Any, where: str) -> tuple[int, ...]:
    """Seeds of runs, each once."""
    if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise SpinetError(f"{where}: expected a list of whole numbers. Received: {seeds!r}")
    return tuple(dict.fromkeys(seeds))


def with_steps(config: Config, steps: int) -> Config:
    """A configuration with so many updates in all, as equally as possible in its epochs."""
    return dataclasses.replace(config, steps=max(math.ceil(steps / config.epochs), 1))


def folder_name(system: str) -> str:
    """The name of a system's folder."""
    return re.sub(r"[^a-z0-9]+", "-", system.lower()).strip("-")


def _read_systems(content: Any, common: Any, budget: Budget, where: str) -> dict[str, Config | None]:
    if not (isinstance(content, Mapping) and content and isinstance(common, Mapping)):
        raise SpinetError(f"{where}: expected `systems` by name, and `training` with settings of all of them.")
    systems: dict[str, Config | None] = {}
    for name, settings in content.items():
        place = f"{where}: systems: {name}"
        if not isinstance(settings, Mapping):
            raise SpinetError(f"{place}: expected keys and values. Received: {settings!r}")
        model = dict(settings)
        own = model.pop("training", {})
        if model == {"system": NDVI}:
            systems[str(name)] = None
            continue
        both = {**common, **own, "model": model, "batch": budget.batch}
        # Of a network of a fixed length, the clearest frames of a patch.
        series = read_settings(Config, {"model": model, "frames": "clearest", "frame_count": 1}, place).model.series
        if series:
            both |= {"frames": "clearest", "frame_count": series}
        config = read_settings(Config, both, place)
        systems[str(name)] = with_steps(config, budget.steps) if budget.steps else config
    folders = [folder_name(name) for name in systems]
    if "" in folders or len(set(folders)) < len(folders):
        raise SpinetError(f"{where}: expected names of systems that differ in letters or digits: {', '.join(systems)}")
    return systems


def require_keys(content: Any, where: str, required: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Raise a SpinetError if content has not the required keys, or has others than these and those."""
    if not isinstance(content, Mapping):
        raise SpinetError(f"{where}: expected keys and values. Received: {content!r}")
    missing = [key for key in required if key not in content]
    unknown = [key for key in content if key not in (*required, *others)]
    if missing or unknown:
        problem = f"no {', '.join(missing)}" if missing else f"unknown {', '.join(map(str, unknown))}"
        raise SpinetError(f"{where}: expected the keys {', '.join((*required, *others))}. Received: {problem}")
