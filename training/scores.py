"""Scores of a map of cultivated land against its label, from counts that hold them for every threshold at once."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from spinet_tf.data.ai4eo import label_weights
from spinet_tf.errors import SpinetError
from spinet_tf.metrics import matthews_corrcoef_from_counts

# Probabilities above which land can be called cultivated, and the one that binary cross-entropy calibrates for.
THRESHOLDS = np.arange(1, 1000) / 1000
THRESHOLD = 0.5

# Pixels of the label no further than this from a boundary are near it.
BOUNDARY_PIXELS = 2

# Numbers of frames: those that the curve goes through, and where the groups of pixels by clear frames begin.
FRAME_STEPS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)

# Kinds of known pixels: their class, whether they are near a boundary, their group by clear frames.
_KINDS = (2, 2, len(FRAME_STEPS) + 1)


@dataclasses.dataclass(frozen=True)
class Score:
    """How well a map agrees with a label. Pixels that the label does not know never count.

    Every score is 0 where it is not defined, as in scikit-learn with `zero_division=0`: MCC where truth or map has one
    class only, precision where nothing is called cultivated, recall where nothing is.

    Attributes:
        mcc: Matthews' correlation, every known pixel counting once, as in the paper.
        weighted_mcc: the same with the weights of the AI4EO challenge's score (see `spinet_tf.data.ai4eo.weight_map`).
        precision: the part of what is called cultivated that is.
        recall: the part of what is cultivated that is called so.
        f1: harmonic mean of precision and recall.
        iou: intersection over union of cultivated land in map and label.
        mcc_near_boundary: MCC of the pixels that `near_boundary` finds; None where there are none.
        mcc_elsewhere: MCC of the others.
        mcc_by_clear_frames: MCC of the pixels that so many frames saw clear, by the names of `clear_frame_groups`;
            groups without pixels are left out.
    """

    mcc: float
    weighted_mcc: float
    precision: float
    recall: float
    f1: float
    iou: float
    mcc_near_boundary: float | None
    mcc_elsewhere: float | None
    mcc_by_clear_frames: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Tally:
    """How many pixels of a label have values of a map in each interval between thresholds, and what they weigh.

    Scores at any of the thresholds follow from it exactly, and the tallies of several scenes can be added.

    Attributes:
        thresholds: float64 (thresholds,), ascending.
        pixels: int64 (2, 2, groups, thresholds + 1): known pixels by class (not cultivated, cultivated), by place
            (elsewhere, near a boundary), by how many frames saw them clear, and by interval of the value.
        weights: float64 (2, thresholds + 1): sums of the challenge's weights, by class and interval.
    """

    thresholds: np.ndarray
    pixels: np.ndarray
    weights: np.ndarray

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.thresholds, self.pixels + other.pixels, self.weights + other.weights)

    def mcc_at_thresholds(self) -> np.ndarray:
        """Matthews' correlation at each threshold, float64 (thresholds,)."""
        intervals = self.pixels.sum(axis=(1, 2))
        below = np.cumsum(intervals, axis=-1)[:, :-1]
        above = intervals.sum(axis=-1, keepdims=True) - below
        return matthews_corrcoef_from_counts(above[1], above[0], below[1], below[0])

    def score(self, threshold: float) -> Score:
        """The scores of the map that calls cultivated what exceeds a threshold, one of `thresholds`."""
        index = self.thresholds.tolist().index(threshold)
        tp, fp, fn, tn = _confusion(self.pixels, index)
        cultivated, called, wrong = (tp + fn).sum(), (tp + fp).sum(), (fp + fn).sum()
        hits = tp.sum()
        elsewhere, near = (_mcc(*(count[place] for count in (tp, fp, fn, tn))) for place in (0, 1))
        groups = {
            name: _mcc(*(count[:, group] for count in (tp, fp, fn, tn)))
            for group, name in enumerate(clear_frame_groups())
        }
        return Score(
            mcc=_mcc(tp, fp, fn, tn) or 0.0,
            weighted_mcc=_mcc(*_confusion(self.weights, index)) or 0.0,
            precision=_ratio(hits, called),
            recall=_ratio(hits, cultivated),
            f1=_ratio(2 * hits, 2 * hits + wrong),
            iou=_ratio(hits, hits + wrong),
            mcc_near_boundary=near,
            mcc_elsewhere=elsewhere,
            mcc_by_clear_frames={name: mcc for name, mcc in groups.items() if mcc is not None},
        )

    def pixels_by_clear_frames(self) -> dict[str, int]:
        """How many known pixels each group of `clear_frame_groups` has, without those that have none."""
        counts = self.pixels.sum(axis=(0, 1, 3)).tolist()
        return {name: count for name, count in zip(clear_frame_groups(), counts, strict=True) if count}


class Truth:
    """The known pixels of a scene's label, grouped once, to count any number of maps against.

    Args:
        label: uint8 (height, width), 1 cultivated, 0 not, 255 unknown.
        clear_frames: integer (height, width), how many frames saw each pixel clear.

    Attributes:
        known: bool (height, width). The other attributes hold the known pixels only, in its order.
        cultivated: bool (pixels,).
        near: bool (pixels,), whether they are near a boundary.
        group: integer (pixels,), their number among `clear_frame_groups`.

    Raises:
        SpinetError: if the shapes differ.

    Example:
        Truth(label, clear_frames).tally(probability, THRESHOLDS).score(0.5).mcc
    """

    def __init__(self, label: np.ndarray, clear_frames: np.ndarray):
        _require_shape(clear_frames, label)
        self.known = label != 255
        self.cultivated = label[self.known] == 1
        self.near = near_boundary(label)[self.known]
        self.group = np.searchsorted(FRAME_STEPS, clear_frames[self.known], side="right")
        self._kind = np.ravel_multi_index((self.cultivated.astype(int), self.near.astype(int), self.group), _KINDS)
        self._weight = label_weights(label)[self.known]

    def tally(self, values: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> Tally:
        """Count what the scores of a map need.

        Args:
            values: (height, width), a probability, or a map of true and false. Nothing exceeds a threshold where it is
                NaN.
            thresholds: the thresholds, ascending, at which scores will be asked for.

        Returns:
            The counts.

        Raises:
            SpinetError: if the map has not the label's shape.
        """
        _require_shape(values, self.known)
        thresholds = np.asarray(thresholds, "float64")
        intervals = len(thresholds) + 1
        # In float32, as a map is compared with its threshold.
        known = np.nan_to_num(values[self.known].astype("float32"), nan=0)
        interval = np.searchsorted(thresholds.astype("float32"), known, side="left")
        pixels = np.bincount(self._kind * intervals + interval, minlength=np.prod(_KINDS) * intervals)
        weights = np.bincount(self.cultivated * intervals + interval, self._weight, minlength=2 * intervals)
        return Tally(thresholds, pixels.reshape(*_KINDS, intervals), weights.reshape(2, intervals))


def near_boundary(label: np.ndarray) -> np.ndarray:
    """Find the pixels within 2 pixels of a boundary between cultivated and other land.

    On the boundary are pixels that share an edge with one of the other class; near it those within a disk of radius 2
    around one. The label tells no parcels apart, so a line between two cultivated ones is not seen, and pixels that it
    does not know make no boundary.

    Args:
        label: uint8 (height, width), 1 cultivated, 0 not, 255 unknown.

    Returns:
        bool (height, width).

    Example:
        near_boundary(scene["label"].values).mean()
    """
    known, cultivated = label != 255, label == 1
    boundary = np.zeros(label.shape, bool)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differs = (cultivated[before] != cultivated[after]) & known[before] & known[after]
        boundary[before] |= differs
        boundary[after] |= differs
    y, x = np.mgrid[-BOUNDARY_PIXELS : BOUNDARY_PIXELS + 1, -BOUNDARY_PIXELS : BOUNDARY_PIXELS + 1]
    return ndimage.binary_dilation(boundary, y * y + x * x <= BOUNDARY_PIXELS**2)


def clear_frame_groups() -> list[str]:
    """Names of the groups of pixels by how many frames saw them clear: 0, 1, 2, 3 to 4, 5 to 7, ..."""
    names = ["0"]
    for first, after in itertools.pairwise(FRAME_STEPS):
        names.append(str(first) if after == first + 1 else f"{first} to {after - 1}")
    return [*names, f"{FRAME_STEPS[-1]} or more"]


def frame_steps(frames: int) -> list[int]:
    """The numbers of frames, up to so many, that the curve of MCC against the frames used goes through."""
    return [step for step in FRAME_STEPS if step < frames] + [frames]


def best_threshold(tallies: Iterable[Tally]) -> float:
    """The threshold with the highest mean MCC over the scenes; of several the nearest to 0.5."""
    tallies = list(tallies)
    mean = np.mean([tally.mcc_at_thresholds() for tally in tallies], axis=0)
    best = tallies[0].thresholds[mean >= mean.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - THRESHOLD))])


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of each score over the scenes, as the paper gives it; of each group over the scenes that have it."""
    columns = [dataclasses.asdict(score) for score in scores]
    groups = [column.pop("mcc_by_clear_frames") for column in columns]
    means: dict[str, Any] = {name: _mean_of(column[name] for column in columns) for name in columns[0]}
    return Score(
        **means,
        mcc_by_clear_frames={
            name: statistics.fmean(group[name] for group in groups if name in group)
            for name in clear_frame_groups()
            if any(name in group for group in groups)
        },
    )


def _require_shape(values: np.ndarray, label: np.ndarray) -> None:
    if values.shape != label.shape:
        raise SpinetError(f"Expected a map of the label's shape {label.shape}. Received: {values.shape}")


def _confusion(histogram: np.ndarray, index: int) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives and true negatives at the threshold of that index."""
    below = histogram[..., : index + 1].sum(axis=-1)
    above = histogram[..., index + 1 :].sum(axis=-1)
    return above[1], above[0], below[1], below[0]


def _mcc(*counts: np.ndarray) -> float | None:
    """Matthews' correlation of (tp, fp, fn, tn), each summed; None without pixels."""
    sums = [count.sum() for count in counts]
    return float(matthews_corrcoef_from_counts(*sums)) if sum(sums) else None


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _mean_of(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None
