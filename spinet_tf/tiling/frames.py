"""Which images of a time series a model sees."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .errors import SpinetError

Method = Literal["all", "clearest", "random"]

# A frame of exactly max_cloud is admitted, whatever rounding to float32 did to its fraction.
_TOLERANCE = 1e-6


def choose_frames(
    clear_fraction: np.ndarray,
    method: Method = "all",
    count: int = 20,
    max_cloud: float = 0.25,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Choose frames of a time series by how much clear ground each shows.

    Args:
        clear_fraction: (time,), the fraction of pixels, 0 to 1, where each frame shows clear ground.
        method: "all" chooses every frame with at most `max_cloud` not clear; "clearest" the `count` clearest frames,
            cloudy ones too where clear ones are few, and spread over the series where more are equally clear;
            "random" `count` random ones of those that "all" chooses. Where "all" or "random" finds none clear enough,
            they choose the single clearest.
        count: how many frames "clearest" and "random" choose at most.
        max_cloud: the largest fraction of a frame, 0 to 1, that may not be clear, in "all" and "random".
        rng: where "random" draws from; by default a new, unseeded generator.

    Returns:
        int64 (frames,), indices of the chosen frames, ascending. Frames without one clear pixel are never chosen.

    Raises:
        SpinetError: if no frame has a clear pixel, or an argument is out of range.

    Example:
        scene.isel(time=choose_frames(clear_fraction(scene), "clearest", count=9))

    Reference: Valsesia & Magli, IGARSS 2022: the clearest 20 to train, all with at most 25 % cloud to test.
    """
    clear = np.asarray(clear_fraction, "float64")
    require_choice(method, count, max_cloud)
    usable = np.flatnonzero(clear > 0)
    if not usable.size:
        raise SpinetError(
            f"Expected at least one frame with a valid pixel. Received: {clear.size} frames without any. "
            "Choose another scene or place, or check its cloud mask."
        )
    if method == "clearest":
        return _clearest(clear, usable, count)
    chosen = usable[clear[usable] >= 1 - max_cloud - _TOLERANCE]
    if not chosen.size:
        chosen = _clearest(clear, usable, 1)
    elif method == "random" and chosen.size > count:
        chosen = (rng or np.random.default_rng()).choice(chosen, count, replace=False)
    return np.sort(chosen)


def _clearest(clear: np.ndarray, usable: np.ndarray, count: int) -> np.ndarray:
    """The `count` clearest of the usable frames, ascending."""
    if count >= usable.size:
        return usable
    least = np.sort(clear[usable])[-count]
    clearer = usable[clear[usable] > least]
    tied = usable[clear[usable] == least]
    # Evenly over all that are as clear as the last: in a clear spring the first of them would miss the summer.
    places = (np.arange(count - clearer.size) + 0.5) * tied.size / (count - clearer.size)
    return np.sort(np.concatenate([clearer, tied[places.astype(int)]]))


@dataclass(frozen=True)
class FrameChoice:
    """How the frames of each tile are chosen: the arguments of `choose_frames`, checked.

    Attributes:
        method: "all" or "clearest"; not "random", because maps repeat.
        count: how many frames "clearest" keeps.
        max_cloud: the fraction of a tile that may not be clear, in "all".

    Raises:
        SpinetError: if one of them is out of range.

    Example:
        FrameChoice("clearest", count=9).choose(np.array([1.0, 0.3, 0.9]))
    """

    method: Method = "all"
    count: int = 20
    max_cloud: float = 0.25

    def __post_init__(self):
        if self.method == "random":
            raise SpinetError("Expected a method out of all, clearest. Received: 'random', with which no map repeats.")
        require_choice(self.method, self.count, self.max_cloud)

    def choose(self, fraction: np.ndarray) -> np.ndarray:
        """The frames that `choose_frames` chooses by these fractions (time,); none where all fractions are 0."""
        if not np.any(fraction):
            return np.zeros(0, np.int64)
        return choose_frames(fraction, self.method, self.count, self.max_cloud)


def count_frames(
    clear_fraction: np.ndarray, method: Method = "all", count: int = 20, max_cloud: float = 0.25
) -> np.ndarray:
    """How many frames `choose_frames` chooses, for many series at once.

    Args:
        clear_fraction: (series, time), 0 where a series has no further frame.
        method: as in `choose_frames`; and `count` and `max_cloud`.
        count: how many frames at most.
        max_cloud: the cloudy fraction allowed.

    Returns:
        int64 (series,); 0 for a series without one clear pixel, which `choose_frames` refuses.

    Example:
        count_frames(np.array([[1, 0.8, 0.2], [0.1, 0, 0]]))  # [2, 1]
    """
    clear = np.asarray(clear_fraction)
    usable = np.count_nonzero(clear > 0, axis=1)
    if method == "clearest":
        return np.minimum(usable, count)
    chosen = np.count_nonzero((clear > 0) & (clear >= 1 - max_cloud - _TOLERANCE), axis=1)
    chosen = np.where(chosen == 0, np.minimum(usable, 1), chosen)
    return np.minimum(chosen, count) if method == "random" else chosen


def require_choice(method: str, count: int, max_cloud: float) -> None:
    """Raise a SpinetError if an argument of `choose_frames` is out of range."""
    if method not in get_args(Method):
        raise SpinetError(f"Expected a method out of {', '.join(get_args(Method))}. Received: {method!r}")
    if count < 1:
        raise SpinetError(f"Expected a count of at least 1 frame. Received: {count}")
    if not 0 <= max_cloud <= 1:
        raise SpinetError(f"Expected max_cloud from 0 to 1. Received: {max_cloud}")
