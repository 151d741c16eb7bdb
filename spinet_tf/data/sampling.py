"""What a patch becomes when it is trained on: some of its frames, turned, a little brighter or darker. NumPy only."""

import dataclasses

import numpy as np

from spinet_tf.data.patches import Patch, turn
from spinet_tf.errors import SpinetError
from spinet_tf.tiling.frames import Method, choose_frames, require_choice

# What random numbers are drawn for: each has a stream of its own, so that none depends on how many others were drawn.
PASS, BATCH, PATCH, VISIT, TURN = range(5)


def stream(seed: int, *key: int) -> np.random.Generator:
    """A generator of random numbers that depends on nothing but the seed and the key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How training samples are drawn and varied.

    Attributes:
        frames: which frames of a patch are taken, see `spinet_tf.data.choose_frames`.
        count: how many frames "clearest" and "random" take at most; a pair (low, high) is a range that the number is
            drawn from anew for each batch, both ends included.
        max_cloud: the cloudy fraction of a frame allowed, 0 to 1.
        augment: whether patches are flipped and rotated, by one of the 8 symmetries of the square.
        jitter: how much brightness varies, 0 to 1: digital numbers are multiplied by exp(jitter * (f + b) / sqrt(2))
            with f drawn for each frame and b for each band from the standard normal distribution, as light and haze
            differ between dates, and calibration between bands. 0 stays 0 (no data), other numbers within 1..65535.
        frame_dropout: the probability with which each chosen frame is left out, 0 to below 1; at least one stays. A
            pair (low, high) is a range that it is drawn from for each patch, so that a batch holds series of all
            lengths and its statistics are theirs together, as the moving ones are.
        balance: whether half of the patches are drawn as the patch of a random cultivated pixel and half as that of a
            random one that is not cultivated, instead of all patches equally often.

    Raises:
        SpinetError: if a value is out of range.

    Example:
        Sampling(frames="clearest", count=(5, 20), jitter=0.05)

    Reference: Valsesia & Magli, IGARSS 2022, train on `Sampling("clearest", 20)`.
    """

    frames: Method = "random"
    count: int | tuple[int, int] = 20
    max_cloud: float = 0.25
    augment: bool = True
    jitter: float = 0.0
    frame_dropout: float | tuple[float, float] = 0.0
    balance: bool = False

    def __post_init__(self):
        match self.counts:
            case (int(low), int(high)) if low <= high:
                require_choice(self.frames, low, self.max_cloud)
            case _:
                raise SpinetError(f"Expected a count of frames, or a pair (low, high) of them. Received: {self.count}")
        if not 0 <= self.jitter <= 1:
            raise SpinetError(f"Expected jitter from 0 to 1. Received: {self.jitter}")
        least, most = self.dropouts
        if not 0 <= least <= most < 1:
            raise SpinetError(f"Expected frame_dropout from 0 to below 1. Received: {self.frame_dropout}")

    @property
    def counts(self) -> tuple[int, int]:
        """The least and the largest number of frames taken."""
        return (self.count, self.count) if isinstance(self.count, int) else self.count

    @property
    def dropouts(self) -> tuple[float, float]:
        """The least and the largest probability with which a frame is left out."""
        return self.frame_dropout if isinstance(self.frame_dropout, tuple) else (self.frame_dropout, self.frame_dropout)

    def draw_count(self, rng: np.random.Generator) -> int:
        """The number of frames for one batch."""
        low, high = self.counts
        return int(rng.integers(low, high + 1))

    def choose(self, clear: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """The frames of one patch, int64, ascending, given the clear fraction of each inside it."""
        return choose_frames(clear, self.frames, count, self.max_cloud, rng)

    def drop(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The frames that stay of those chosen, at least one."""
        low, high = self.dropouts
        if not high:
            return frames
        share = low if low == high else rng.uniform(low, high)
        stays = rng.random(len(frames)) >= share
        stays[rng.integers(len(frames))] |= not stays.any()
        return frames[stays]

    def vary(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """The patch turned and with other brightness, as far as is asked for; maybe a view of what came."""
        if self.jitter:
            patch = patch._replace(images=_jittered(patch.images, self.jitter, rng))
        return turn(patch, int(rng.integers(8))) if self.augment else patch


def _jittered(images: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    frames, *_, bands = images.shape
    normal = rng.standard_normal((frames, 1), "float32") + rng.standard_normal((1, bands), "float32")
    gain = np.exp(np.float32(jitter / np.sqrt(2)) * normal)[:, None, None]
    varied = images * gain
    np.rint(varied, out=varied)
    np.clip(varied, 1, np.iinfo("uint16").max, out=varied)
    return varied.astype("uint16") * (images != 0)
