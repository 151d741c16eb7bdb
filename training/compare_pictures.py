"""What a comparison found, drawn: maps of every system side by side, and the scores of every run."""

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from spinet_tf.files import replacing
from training.compare_config import folder_name
from training.compare_report import by_system
from training.compare_runs import RUNS, Run
from training.pictures import CLASS_COLOURS

_RUN, _MEAN = "#c77c11", "#7a3e0c"


def draw_comparison(output: Path, runs: Sequence[Run]) -> list[Path]:
    """Write maps.png and mcc.png.

    Args:
        output: the folder of the comparison, where the runs left their maps.
        runs: all runs.

    Returns:
        The files.
    """
    figures = {"maps.png": _maps(output, runs), "mcc.png": _scores(runs)}
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        with replacing(output / name) as temporary:
            # Without the time, the same figure gives the same file.
            figure.savefig(temporary, dpi=110, metadata={"Software": None})
    return [output / name for name in figures]


def _maps(output: Path, runs: Sequence[Run]) -> Figure:
    """A row for each scene: true colour, truth, and the map of each system's first seed, with its MCC."""
    systems = by_system(runs)
    scenes = sorted(path for path in (output / "scenes").iterdir() if path.is_dir())
    columns = 2 + len(systems)
    figure = Figure(figsize=(1.6 * columns, 1.85 * len(scenes) + 0.4), layout="constrained")
    axes = figure.subplots(len(scenes), columns, squeeze=False)
    for number, (row, scene) in enumerate(zip(axes, scenes, strict=True)):
        shown = {"true colour": scene / "true_colour.png", "truth": scene / "truth.png"}
        for name, found in systems.items():
            folder = output / RUNS / folder_name(name)
            folder = folder if found[0].seed is None else folder / f"seed-{found[0].seed}"
            shown[name] = folder / f"{scene.name}.png"
        for place, (name, path) in zip(row, shown.items(), strict=True):
            place.imshow(Image.open(path).convert("RGB"), interpolation="none")
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(False)
            if number == 0:
                place.set_title("\n".join(textwrap.wrap(name, 18)), fontsize=8)
            scores = systems[name][0].scenes if name in systems else {}
            place.set_xlabel(f"MCC {scores[scene.name].mcc:.3f}" if scene.name in scores else "", fontsize=8)
        row[0].set_ylabel(scene.name, fontsize=8)
    figure.legend(
        handles=[Patch(facecolor=colour, edgecolor="#888888", label=name) for name, colour in CLASS_COLOURS.items()],
        loc="outside lower center",
        ncols=len(CLASS_COLOURS),
        frameon=False,
        fontsize=8,
    )
    return figure


def _scores(runs: Sequence[Run]) -> Figure:
    """A dot for the mean MCC of each run, a bar for that of each system."""
    systems = by_system(runs)
    figure = Figure(figsize=(6.4, 0.45 * len(systems) + 0.9), layout="constrained")
    axes = figure.subplots()
    for place, found in enumerate(systems.values()):
        scores = [run.mean.mcc for run in found]
        mean = statistics.fmean(scores)
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=_MEAN, lw=3)
        axes.plot(scores, [place] * len(scores), "o", color=_RUN, ms=5, alpha=0.8)
        axes.annotate(f"{mean:.3f}", (mean, place - 0.36), ha="center", va="bottom", fontsize=8, color=_MEAN)
    axes.set_yticks(range(len(systems)), list(systems))
    axes.invert_yaxis()
    axes.set_ylim(len(systems) - 0.4, -0.8)
    axes.set_xlabel("MCC, mean over the scenes: a dot for each seed, a bar for their mean")
    axes.grid(axis="x", color="#e8e4dd")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
