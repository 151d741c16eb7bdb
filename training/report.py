"""The report of an evaluation: one HTML file that needs nothing else, no network and no scripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib
from matplotlib.colors import to_hex

from spinet_tf.files import replacing
from training.pictures import CLASS_COLOURS, ERROR_COLOURS, PROBABILITY_COLOURS, UNCERTAINTY_COLOURS
from training.plots import frames_plot, reliability_plot, risk_coverage_plot, threshold_plot
from training.results import Evaluation, SceneResult
from training.tables import score_tables


class Panel(NamedTuple):
    """A picture of a scene as the report shows it.

    Attributes:
        title: what it shows.
        source: the picture as a data address.
    """

    title: str
    source: str


def write_report(path: Path, evaluation: Evaluation, panels: Sequence[Sequence[Panel]]) -> None:
    """Write an evaluation as one HTML file: figures, curves, and pictures of every scene.

    Args:
        path: the file; an existing one is replaced.
        evaluation: what was found.
        panels: the pictures of each scene.

    Example:
        write_report(Path("report.html"), evaluation, panels)
    """
    # Names of scenes and files come from anywhere, so everything that is filled in is escaped.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = [("MCC against the threshold", threshold_plot(evaluation))]
    if evaluation.has_curve():
        plots.insert(0, ("MCC against the number of frames used", frames_plot(evaluation)))
    if evaluation.has_uncertainty():
        plots.append(("Reliability of the probability", reliability_plot(evaluation)))
        plots.append(("Risk against coverage", risk_coverage_plot(evaluation)))
    systems = evaluation.systems()
    html = environment.get_template("report.html.jinja").render(
        evaluation=evaluation,
        means=[(system, evaluation.mean(system)) for system in systems],
        tables=score_tables(evaluation),
        plots=plots,
        scenes=[
            (scene, _mcc_line(evaluation, scene), shown) for scene, shown in zip(evaluation.scenes, panels, strict=True)
        ],
        class_colours=CLASS_COLOURS,
        error_colours=ERROR_COLOURS,
        probability_colours=_ramp(PROBABILITY_COLOURS),
        uncertainty_colours=_ramp(UNCERTAINTY_COLOURS) if evaluation.has_uncertainty() else [],
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _ramp(colours: str) -> list[str]:
    return [to_hex(matplotlib.colormaps[colours](place / 8)) for place in range(9)]


def _mcc_line(evaluation: Evaluation, scene: SceneResult) -> str:
    scores = (f"{scene.score(system).mcc:.3f} ({system.label})" for system in evaluation.systems())
    return f"MCC {', '.join(scores)}"
