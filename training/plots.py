"""Curves of an evaluation: MCC against the number of frames used, and against the threshold."""

import base64
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from training.results import Evaluation
from training.scores import THRESHOLD, THRESHOLDS

_MODEL, _NDVI, _CHOSEN, _GREY = "#7a3e0c", "#2166ac", "#c77c11", "#bdb7ae"


def frames_plot(evaluation: Evaluation) -> str:
    """MCC against the number of frames used, of each scene in grey and of each system in the mean.

    Args:
        evaluation: what was found, with curves.

    Returns:
        The address of an SVG for an HTML <img>.
    """
    figure, axes = _axes("clearest frames used")
    systems = evaluation.systems()
    scenes = evaluation.scenes if len(evaluation.scenes) > 1 else []
    for number, scene in enumerate(scenes):
        steps = sorted(scene.curves["model"])
        label = f"{systems[0].label}, each scene" if number == 0 else None
        axes.plot(steps, [scene.curve_mcc(systems[0], step) for step in steps], color=_GREY, lw=1, label=label)
    steps = evaluation.steps()
    colours = {"model": _MODEL, "model_at_chosen": _CHOSEN, "ndvi": _NDVI}
    for system in systems:
        mean = [evaluation.mean_curve_mcc(system, step) for step in steps]
        style = "--" if system.source == "ndvi" else "-"
        axes.plot(steps, mean, style, color=colours[system.key], lw=2, marker="o", ms=4, label=system.label)
    # Few frames matter most, so their part of the axis is the widest.
    axes.set_xscale("log")
    # The last two may be too close for two labels.
    ticks = [step for step in steps[:-1] if step < 0.85 * steps[-1]] + steps[-1:]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), f"all ({ticks[-1]})" if len(ticks) > 1 else "all"])
    axes.minorticks_off()
    return _svg(figure, axes)


def threshold_plot(evaluation: Evaluation) -> str:
    """The mean MCC of the model against its threshold, with the thresholds that were used.

    Args:
        evaluation: what was found.

    Returns:
        The address of an SVG for an HTML <img>.
    """
    figure, axes = _axes("threshold on the probability")
    curves = [scene.tallies["model"].mcc_at_thresholds() for scene in evaluation.scenes]
    for number, curve in enumerate(curves if len(curves) > 1 else []):
        axes.plot(THRESHOLDS, curve, color=_GREY, lw=1, label=None if number else f"{evaluation.model}, each scene")
    axes.plot(THRESHOLDS, np.mean(curves, axis=0), color=_MODEL, lw=2, label=f"{evaluation.model}, mean")
    axes.axvline(THRESHOLD, color=_MODEL, lw=1, ls=":", label=f"{THRESHOLD}")
    for system in evaluation.systems():
        if system.key == "model_at_chosen":
            axes.axvline(system.threshold, color=_CHOSEN, lw=1.5, ls=":", label=f"{system.threshold:g}, chosen")
        if system.key == "ndvi":
            axes.axhline(evaluation.mean(system).mcc, color=_NDVI, lw=2, ls="--", label="NDVI, mean")
    axes.set_xlim(0, 1)
    return _svg(figure, axes)


def reliability_plot(evaluation: Evaluation) -> str:
    """The share of cultivated land against the probability that the model states, of all scenes together.

    Args:
        evaluation: what was found, with uncertainty.

    Returns:
        The address of an SVG for an HTML <img>.
    """
    figure, axes = _axes("probability stated", "share of cultivated land")
    mean, share, pixels = evaluation.trust().reliability()
    axes.plot((0, 1), (0, 1), color=_GREY, lw=1, ls="--", label="calibrated")
    axes.plot(mean, share, color=_MODEL, lw=2, marker="o", ms=4, label=evaluation.model)
    axes.bar(mean, pixels / pixels.sum(), width=0.04, color=_GREY, alpha=0.6, label="part of the pixels")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return _svg(figure, axes)


def risk_coverage_plot(evaluation: Evaluation) -> str:
    """The error rate against how many of the least uncertain pixels are kept, of all scenes together.

    Args:
        evaluation: what was found, with uncertainty.

    Returns:
        The address of an SVG for an HTML <img>.
    """
    figure, axes = _axes("part of the pixels kept, the least uncertain", "error rate")
    ways = {"by the entropy of the probability": False} | ({"by the model's own": True} if evaluation.has_own() else {})
    for (label, own), colour in zip(ways.items(), (_MODEL, _NDVI), strict=False):
        axes.plot(*evaluation.trust(own).risk_coverage(), color=colour, lw=2, label=label)
    rate = 1 - evaluation.trust().risk_coverage()[1][-1]
    coverage = np.linspace(rate, 1, 50)
    axes.plot(coverage, (coverage - rate) / coverage, color=_GREY, lw=1, ls="--", label="errors last")
    axes.set_xlim(0, 1)
    return _svg(figure, axes)


def _axes(x_label: str, y_label: str = "MCC") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#e8e4dd")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, axes: Axes) -> str:
    # Below all curves, so that it covers none.
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    stream = io.BytesIO()
    # The same figure gives the same file.
    with rc_context({"svg.hashsalt": "spinet"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
