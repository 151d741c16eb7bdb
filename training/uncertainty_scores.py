"""How far a model's probabilities can be trusted, and whether it knows where it errs, from sums over scenes."""

import dataclasses
import itertools
from typing import Any

import numpy as np
from scipy.special import digamma

from spinet_tf.inference.assembly import entropy
from training.scores import FRAME_STEPS, THRESHOLD, Truth

# Intervals of the probability, of equal width.
BINS = 15

# Limits between levels of uncertainty, of equal ratio: most pixels are nearly certain, and have their order too.
LEVELS = np.geomspace(1e-7, 1, 4000)

# Where pixels lie: the names of rows and of keys.
PLACES = ("all", "near_boundary", "elsewhere")


@dataclasses.dataclass(frozen=True)
class Trust:
    """How far probabilities can be trusted on some pixels. Errors are those of the map at 0.5.

    Attributes:
        pixels: how many there are.
        ece: expected calibration error: the mean over the pixels of |share that is cultivated - mean probability| in
            their one of 15 intervals of the probability of cultivated land, of equal width. (Of the probability of the
            class that was chosen, errors of the two classes could cancel.)
        brier: mean squared difference of probability and truth.
        nll: mean negative log-likelihood, in nats.
        error_rate: the part of the pixels that is wrong.
        aurc: area under the risk-coverage curve: the mean, over how many of the least uncertain pixels are kept, of the
            part of them that is wrong. Pixels of one level of uncertainty are taken in random order.
        excess_aurc: by how much that exceeds the area if all wrong pixels came last, which the error rate sets.
        error_detection: area under the precision-recall curve (average precision) of wrong pixels, found by their
            uncertainty; by chance it is the error rate.
        uncertainty: the mean uncertainty.
    """

    pixels: int
    ece: float
    brier: float
    nll: float
    error_rate: float
    aurc: float
    excess_aurc: float
    error_detection: float
    uncertainty: float


@dataclasses.dataclass(frozen=True)
class UncertaintyTally:
    """Sums over the known and seen pixels of a map, from which `Trust` follows; those of several scenes can be added.

    The first axis is the place: elsewhere, near a boundary.

    Attributes:
        bins: float64 (2, 15, 3): pixels, cultivated ones, and the sum of the probabilities, by interval.
        sums: float64 (2, 3): of the squared difference, of the negative log-likelihood, and of the uncertainty.
        levels: int64 (2, 2, levels): right and wrong pixels by level of uncertainty.
        groups: float64 (groups, 3): pixels, wrong ones, and the sum of the uncertainty, by the number of clear frames.
    """

    bins: np.ndarray
    sums: np.ndarray
    levels: np.ndarray
    groups: np.ndarray

    def __add__(self, other: "UncertaintyTally") -> "UncertaintyTally":
        mine, others = ([getattr(tally, field.name) for field in dataclasses.fields(self)] for tally in (self, other))
        return UncertaintyTally(*(one + another for one, another in zip(mine, others, strict=True)))

    def trust(self, place: str = "all") -> Trust | None:
        """What follows for the pixels of one of `PLACES`; None where there are none."""
        chosen = {"all": slice(None), "near_boundary": slice(1, 2), "elsewhere": slice(1)}[place]
        pixels, cultivated, probability = self.bins[chosen].sum(axis=0).T
        brier, nll, uncertainty = self.sums[chosen].sum(axis=0)
        right, wrong = self.levels[chosen].sum(axis=0)
        total = pixels.sum()
        if not total:
            return None
        rate = wrong.sum() / total
        area = _area_under_risk(right, wrong)
        return Trust(
            pixels=int(total),
            ece=float(np.abs(cultivated - probability).sum() / total),
            brier=float(brier / total),
            nll=float(nll / total),
            error_rate=float(rate),
            aurc=area,
            excess_aurc=area - _area_under_risk(*_all_wrong_last(right, wrong)),
            error_detection=_average_precision(right, wrong),
            uncertainty=float(uncertainty / total),
        )

    def reliability(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean probability, share of cultivated land, and number of pixels, of the intervals that have some."""
        pixels, cultivated, probability = self.bins.sum(axis=0).T
        there = pixels > 0
        return probability[there] / pixels[there], cultivated[there] / pixels[there], pixels[there]

    def risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """The part of the pixels that is kept, the least uncertain ones, and the part of these that is wrong."""
        right, wrong = self.levels.sum(axis=0)
        kept, errors = np.cumsum(right + wrong), np.cumsum(wrong)
        changes = (right + wrong) > 0
        return kept[changes] / kept[-1], errors[changes] / kept[changes]

    def by_clear_frames(self) -> list[dict[str, Any]]:
        """Pixels, error rate and mean uncertainty by how many frames saw them clear, of `FRAME_STEPS`."""
        limits = itertools.pairwise((0, *FRAME_STEPS, None))
        return [
            {"from": low, "pixels": int(pixels), "error_rate": wrong / pixels, "uncertainty": uncertainty / pixels}
            for (low, _), (pixels, wrong, uncertainty) in zip(limits, self.groups.tolist(), strict=True)
            if pixels
        ]


def tally_uncertainty(truth: Truth, probability: np.ndarray, uncertainty: np.ndarray | None = None) -> UncertaintyTally:
    """Count what the trust in a map needs. Pixels that were not seen do not count, for nothing is said of them.

    Args:
        truth: the scene's.
        probability: float (height, width) on the label's grid, 0 to 1, NaN where not seen.
        uncertainty: likewise, 0 to 1, by which pixels are ordered; None for the entropy of the probability.

    Returns:
        The sums.

    Example:
        tally_uncertainty(Truth(label, clear_frames), probability).trust("near_boundary").ece
    """
    p = probability[truth.known].astype("float64")
    seen = np.isfinite(p)
    p, cultivated = p[seen], truth.cultivated[seen]
    near, group = truth.near[seen].astype(int), truth.group[seen]
    u = entropy(p) if uncertainty is None else uncertainty[truth.known][seen]
    wrong = (p > THRESHOLD) != cultivated

    def sums(kind: np.ndarray, kinds: int, *weights: np.ndarray | None) -> np.ndarray:
        return np.stack([np.bincount(kind, weight, kinds) for weight in weights], axis=-1).astype("float64")

    interval = near * BINS + np.minimum((p * BINS).astype(int), BINS - 1)
    # A probability that rounding made 0 or 1 is a finite mistake too.
    stated = np.clip(np.where(cultivated, p, 1 - p), 1e-7, 1)
    levels = len(LEVELS) + 1
    level = (2 * near + wrong) * levels + np.searchsorted(LEVELS, u)
    return UncertaintyTally(
        bins=sums(interval, 2 * BINS, None, cultivated, p).reshape(2, BINS, 3),
        sums=sums(near, 2, np.square(p - cultivated), -np.log(stated), u),
        levels=np.bincount(level, minlength=4 * levels).reshape(2, 2, levels),
        groups=sums(group, len(FRAME_STEPS) + 1, None, wrong, u),
    )


def _area_under_risk(right: np.ndarray, wrong: np.ndarray) -> float:
    """The mean risk over all coverages, levels from the least uncertain on, the expected one within a level."""
    count = right + wrong
    count, wrong = count[count > 0], wrong[count > 0]
    before, wrong_before = np.cumsum(count) - count, np.cumsum(wrong) - wrong
    share = wrong / count
    # The sum over k = 1 .. count of (wrong_before + share k) / (before + k).
    rest = (wrong_before - share * before) * (digamma(before + count + 1.0) - digamma(before + 1.0))
    return float((share * count + rest).sum() / count.sum())


def _all_wrong_last(right: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.array([right.sum(), 0]), np.array([0, wrong.sum()])


def _average_precision(right: np.ndarray, wrong: np.ndarray) -> float:
    """The sum over levels, the most uncertain first, of precision times the recall that is gained; 0 without errors."""
    found, errors = np.cumsum((right + wrong)[::-1]), np.cumsum(wrong[::-1])
    if not errors[-1]:
        return 0.0
    return float((errors / np.maximum(found, 1) * wrong[::-1]).sum() / errors[-1])
