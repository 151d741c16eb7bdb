"""What the ablations found, as tables and JSON."""

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spinet_tf.files import replacing
from training.ablation_config import BASE, CLOUDY, NO_TERN, AblationConfig
from training.ablation_runs import ALL, CLEAR, ORDERED, SHUFFLED, Run, frames_view, shifted_view
from training.compare_report import spread
from training.scores import THRESHOLD
from training.tables import Table, markdown

_SCORES = ["seeds", "MCC", "± scenes", "difference"]


class Findings:
    """The scores of all runs, by network and view.

    Args:
        runs: as `run_all` returns them.
    """

    def __init__(self, runs: Sequence[Run]):
        self._runs = runs

    def of_seeds(self, network: str, view: str) -> dict[int, float]:
        """The mean MCC over the scenes, by seed."""
        return {
            run.seed: statistics.fmean(run.scores[view].values())
            for run in self._runs
            if run.network == network and view in run.scores
        }

    def of_scenes(self, network: str, view: str, seeds: Sequence[int]) -> list[float]:
        """The mean MCC over these seeds, by scene."""
        found = [run.scores[view].values() for run in self._runs if run.network == network and run.seed in seeds]
        return [statistics.fmean(scores) for scores in zip(*found, strict=True)]

    def difference(self, network: str, view: str, base: str, base_view: str) -> tuple[float, float | None]:
        """How much higher MCC is than that of a base, and its standard error: both networks' common seeds, by scene."""
        seeds = sorted(self.of_seeds(network, view).keys() & self.of_seeds(base, base_view).keys())
        pairs = zip(self.of_scenes(network, view, seeds), self.of_scenes(base, base_view, seeds), strict=True)
        differences = [mcc - before for mcc, before in pairs]
        error = statistics.stdev(differences) / math.sqrt(len(differences)) if differences[1:] else None
        return statistics.fmean(differences), error

    def change(self, network: str) -> float:
        """The greatest change of a probability when frames are shuffled, on any scene with any seed."""
        return max(change for run in self._runs if run.network == network for change in run.change.values())

    def cells(self, network: str, view: str, base: str = BASE, base_view: str = CLEAR) -> list[str]:
        """The columns of a network that was shown a view, beside a base; without the last one for the base itself."""
        seeds = self.of_seeds(network, view)
        scenes = self.of_scenes(network, view, list(seeds))
        cells = [
            str(len(seeds)),
            spread(list(seeds.values())),
            f"{statistics.stdev(scenes):.3f}" if scenes[1:] else "-",
        ]
        return [*cells, "-" if (network, view) == (base, base_view) else self.signed(network, view, base, base_view)]

    def signed(self, network: str, view: str, base: str, base_view: str) -> str:
        """The difference and its standard error, as text."""
        difference, error = self.difference(network, view, base, base_view)
        return f"{difference:+.3f}" + (f" ± {error:.3f}" if error is not None else "")


def parts_rows(ablations: AblationConfig) -> dict[str, tuple[str, str]]:
    """The network and the view behind each row of the first table, by the row's name."""
    left_out = {name: (name, CLEAR) for name in ablations.networks if name not in (CLOUDY, ablations.rival)}
    return {
        **left_out,
        "cloudy frames, in training too": (CLOUDY, ALL),
        "cloudy frames, in the test only": (BASE, ALL),
    }


def ablation_tables(ablations: AblationConfig, runs: Sequence[Run]) -> list[Table]:
    """The tables: parts, numbers of frames, order of frames, misregistration."""
    found = Findings(runs)
    parts = [[name, *found.cells(*shown)] for name, shown in parts_rows(ablations).items()]
    frames = [[str(count), *found.cells(BASE, frames_view(count))] for count in ablations.frames]
    frames.append(["all clear enough", *found.cells(BASE, CLEAR)])
    order = [
        [
            name,
            *found.cells(name, ORDERED, name, ORDERED)[:2],
            spread(list(found.of_seeds(name, SHUFFLED).values())),
            found.signed(name, SHUFFLED, name, ORDERED),
            f"{found.change(name):.1e}",
        ]
        for name in (BASE, ablations.rival)
    ]
    views = {0.0: CLEAR, **{sigma: shifted_view(sigma) for sigma in ablations.misregistration}}
    shifts = [
        [
            f"{sigma:g}",
            *found.cells(BASE, view)[:2],
            spread(list(found.of_seeds(NO_TERN, view).values())),
            found.signed(BASE, view, NO_TERN, view),
        ]
        for sigma, view in views.items()
    ]
    return [
        Table("Parts of the network, bands and clouds", ["network", *_SCORES], parts, []),
        Table(f"Number of frames, {BASE}", ["clear frames", *_SCORES], frames, []),
        Table(
            "Order of frames",
            ["network", "seeds", "MCC in order", "MCC shuffled", "difference", "greatest change of a probability"],
            order,
            [],
        ),
        Table(
            "Registration",
            ["shifts added, pixels", "seeds", "MCC with TERN", "MCC without", "gain by TERN"],
            shifts,
            [],
        ),
    ]


def notes(ablations: AblationConfig) -> list[str]:
    """What the figures mean, a sentence or two each."""
    base = ablations.networks[BASE]
    few, many = (base.frame_count,) * 2 if isinstance(base.frame_count, int) else base.frame_count
    return [
        f"Every network had {(base.steps or 0) * base.epochs:,} updates of {base.batch} patches of {base.patch} pixels "
        f"with {few} to {many} frames; the model scored is that of the epoch with the highest validation MCC, its map "
        f"what has a probability above {THRESHOLD}. Unless said otherwise it sees all frames of a scene with at most "
        f"{base.max_cloud:.0%} of cloud.",
        "MCC is the mean over the scenes of the test, then mean ± standard deviation (n - 1) over seeds. ± scenes: "
        "standard deviation over scenes of the mean over seeds. Differences are those to all bands, parts and clear "
        "frames, of the seeds that both have, scene by scene: mean ± standard error over the scenes. It does not hold "
        "what another seed would change. Seeds after the first are shown scenes with all clear frames only.",
        "Mean instead of attention: every frame attends to all real frames alike; value and output projections learn. "
        "Both it and the network without TERN are trained so.",
        f"Numbers of frames: drawn from the {max(ablations.frames)} clearest of each scene, the fewer among the more.",
        f"Order: {ablations.ordered_frames} of these in order of time, and shuffled.",
        "Registration: each frame of the test is shifted by normal deviates of this standard deviation in each "
        "direction, by cubic splines, beyond what it is off already; in training frames are as they are.",
    ]


def write_tables(output: Path, ablations: AblationConfig, runs: Sequence[Run]) -> list[Table]:
    """Write table.md and results.json; the tables."""
    tables = ablation_tables(ablations, runs)
    summary: dict[str, Any] = {
        "training": str(ablations.training),
        "test": str(ablations.test),
        "networks": {name: dataclasses.asdict(config) for name, config in ablations.networks.items()},
        "runs": [run._asdict() for run in runs],
        "notes": notes(ablations),
    }
    with replacing(output / "results.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    with replacing(output / "table.md") as temporary:
        temporary.write_text(markdown(tables, notes(ablations)), encoding="utf-8")
    return tables
