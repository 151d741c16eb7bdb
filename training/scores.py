"""Scores of maps of cultivated land, and how they are shown."""

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from spinet_tf.data.ai4eo import label_weights
from spinet_tf.errors import SpinetError
from spinet_tf.metrics import matthews_corrcoef_from_counts


@dataclasses.dataclass(frozen=True)
class Score:
    """How well a map agrees with a label.

    Attributes:
        mcc: Matthews' correlation, every known pixel counting once.
        weighted_mcc: the same with the weights of the AI4EO challenge's score (see `spinet_tf.data.ai4eo.weight_map`).
    """

    mcc: float
    weighted_mcc: float


@dataclasses.dataclass(frozen=True)
class SceneScores:
    """The scores of the model and of the NDVI thresholds on one scene."""

    scene: str
    model: Score
    ndvi: Score


def score_map(label: np.ndarray, cultivated: np.ndarray) -> Score:
    """Score a map.

    Args:
        label: uint8 (height, width), 1 cultivated, 0 not, 255 unknown.
        cultivated: bool (height, width), the map.

    Returns:
        Its scores.

    Raises:
        SpinetError: if the shapes differ.
    """
    if label.shape != cultivated.shape:
        raise SpinetError(f"Expected a label of the map's shape {cultivated.shape}. Received: {label.shape}")
    return Score(
        mcc=_weighted(label == 1, cultivated, label != 255),
        weighted_mcc=_weighted(label == 1, cultivated, label_weights(label)),
    )


def _weighted(truth: np.ndarray, predicted: np.ndarray, weight: np.ndarray) -> float:
    # Which of tn, fp, fn, tp each pixel is, as 0 to 3.
    outcome = 2 * truth + predicted
    tn, fp, fn, tp = np.bincount(outcome.ravel(), weight.ravel(), minlength=4)
    return float(matthews_corrcoef_from_counts(tp, fp, fn, tn))


def mean_scores(scores: Sequence[SceneScores]) -> SceneScores:
    """The mean of each score over the scenes, as the paper gives it."""

    def mean(pick) -> Score:
        return Score(
            statistics.fmean(pick(score).mcc for score in scores),
            statistics.fmean(pick(score).weighted_mcc for score in scores),
        )

    return SceneScores("mean", mean(lambda score: score.model), mean(lambda score: score.ndvi))


def table_rows(scores: Sequence[SceneScores]) -> list[list[str]]:
    """Headings, one row for each scene, and their mean."""
    header = ["scene", "SPInet MCC", "NDVI MCC", "SPInet weighted MCC", "NDVI weighted MCC"]
    rows = [
        [score.scene, *(f"{value:.3f}" for value in (score.model.mcc, score.ndvi.mcc))]
        + [f"{value:.3f}" for value in (score.model.weighted_mcc, score.ndvi.weighted_mcc)]
        for score in [*scores, mean_scores(scores)]
    ]
    return [header, *rows]


def rich_table(rows: Sequence[Sequence[str]]) -> Table:
    """The rows for a terminal."""
    table = Table()
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left")
    for row in rows[1:-1]:
        table.add_row(*row)
    table.add_section()
    table.add_row(*rows[-1], style="bold")
    return table


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as Markdown."""
    lines = [" | ".join(row) for row in rows]
    ruler = " | ".join(["---"] + ["---:"] * (len(rows[0]) - 1))
    return "\n".join(f"| {line} |" for line in [lines[0], ruler, *lines[1:]])
