"""What the ablations found, drawn: MCC by number of frames, by misregistration, and what parts are worth."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spinet_tf.files import replacing
from training.ablation_config import BASE, NO_TERN, AblationConfig
from training.ablation_report import Findings, parts_rows
from training.ablation_runs import CLEAR, Run, frames_view, shifted_view

_BASE, _OTHER = "#7a3e0c", "#2166ac"


def draw_ablations(output: Path, ablations: AblationConfig, runs: Sequence[Run]) -> Path:
    """Write ablations.png.

    Args:
        output: the folder to write it to.
        ablations: what was run.
        runs: all runs.

    Returns:
        The file.
    """
    found = Findings(runs)
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    frames, shifts, parts = figure.subplots(1, 3)
    counts = ablations.frames
    _curve(frames, found, BASE, counts, [frames_view(count) for count in counts], _BASE)
    # Few frames matter most, so their part of the axis is the widest.
    frames.set_xscale("log")
    frames.set_xticks(counts, list(map(str, counts)))
    frames.minorticks_off()
    frames.set_xlabel("clear frames seen")

    sigmas = (0.0, *ablations.misregistration)
    views = [CLEAR, *map(shifted_view, ablations.misregistration)]
    _curve(shifts, found, BASE, sigmas, views, _BASE, "with TERN")
    _curve(shifts, found, NO_TERN, sigmas, views, _OTHER, NO_TERN)
    shifts.set_xlabel("shifts added to frames, pixels (σ)")
    shifts.legend(frameon=False, fontsize=8)
    for axes in (frames, shifts):
        axes.set_ylabel("MCC")

    rows = {name: shown for name, shown in parts_rows(ablations).items() if shown != (BASE, CLEAR)}
    for place, shown in enumerate(rows.values()):
        difference, error = found.difference(*shown, BASE, CLEAR)
        parts.barh(place, difference, xerr=error, color=_OTHER, ecolor="#555555", height=0.6)
    parts.set_yticks(range(len(rows)), list(rows), fontsize=8)
    parts.invert_yaxis()
    parts.axvline(0, color=_BASE, lw=2)
    parts.set_xlabel("change of MCC, ± standard error", fontsize=9)
    for axes in (frames, shifts, parts):
        axes.grid(color="#e8e4dd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    path = output / "ablations.png"
    with replacing(path) as temporary:
        # Without the time, the same figure gives the same file.
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
    return path


def _curve(
    axes: Axes,
    found: Findings,
    network: str,
    places: Sequence[float],
    views: Sequence[str],
    colour: str,
    label: str | None = None,
) -> None:
    """A line through the means, and a dot for each seed, of those that were shown all views."""
    by_seed = [found.of_seeds(network, view) for view in views]
    seeds = set.intersection(*map(set, by_seed))
    scores = [[those[seed] for seed in seeds] for those in by_seed]
    axes.plot(places, [statistics.fmean(those) for those in scores], color=colour, lw=2, label=label)
    for place, those in zip(places, scores, strict=True):
        axes.plot([place] * len(those), those, "o", color=colour, ms=4, alpha=0.7)
