"""What SPInet costs: arithmetic as a formula, and memory as one whose constants were fitted to measurements."""

from typing import NamedTuple

# Multiply-accumulates of the fusion block for a fine pixel, in squares of the features: the 3x3 convolutions that open
# branches at strides 1, 2, 4 and 8, of which the last two have kernels as wide as their strides; and those over what
# four branches bring to each stride.
_BRANCHES = 9 + 9 / 4 + 1 + 1
_EXCHANGES = 4 * 9 * (1 + 1 / 4 + 1 / 16 + 1 / 64)
_FLOAT = 4


class Workload(NamedTuple):
    """What goes through a SPInet at once, and its sizes.

    Attributes:
        batch: patches or tiles.
        frames: of each, padding included.
        pixels: of a frame.
        filters: features.
        blocks: TEFA blocks.
        scale: how many times finer the output is.
        heads: attention heads.
        bands: of a frame.

    Example:
        >>> Workload(batch=1, frames=20, pixels=32 * 32).macs / 1e9
        21.9...
    """

    batch: int
    frames: int
    pixels: int
    filters: int = 48
    blocks: int = 16
    scale: int = 4
    heads: int = 1
    bands: int = 12

    @property
    def units(self) -> int:
        """Equivariant units: at both ends of the backbone, in TERN, and two in each block."""
        return 2 * self.blocks + 3

    @property
    def macs(self) -> float:
        """Multiply-accumulates of a forward pass, but for what does not grow with the pixels; multi-resolution fusion.

        Linear in pixels and patches; in frames but for attention, 2 * frames * filters of each unit.
        """
        f = self.filters
        convolutions = 9 * self.bands * f + (self.units - 1) * 9 * f**2
        attention = self.units * 2 * self.heads * f * (f + self.frames)
        registration = 25 * f
        fine = f**2 * (9 + _BRANCHES + _EXCHANGES) + 4 * f
        of_frames = self.frames * (convolutions + attention + registration)
        return self.batch * self.pixels * (of_frames + self.scale**2 * fine)

    @property
    def features(self) -> int:
        """Bytes of one float32 array of features of all frames."""
        return _FLOAT * self.batch * self.pixels * self.frames * self.filters

    @property
    def attention(self) -> int:
        """Bytes of one unit's attention weights."""
        return _FLOAT * self.batch * self.pixels * self.heads * self.frames**2

    @property
    def fine(self) -> int:
        """Bytes of one float32 array of features of the output's pixels."""
        return _FLOAT * self.batch * self.pixels * self.scale**2 * self.filters


# Those of `memory_terms`. A graph that trains takes ten times as much as one that does not.
_FORWARD = (0.0, 4.11, 12.9, 3.12e6, 0.910e9)
_STEP = (10.2, 1.39, 28.6, 32.5e6, 1.076e9)


def memory_terms(load: Workload, training: bool) -> list[float]:
    """What the most memory that a process holds is a sum of, each times a constant.

    Training keeps what the gradients need, of each unit; inference one unit's arrays at a time. The fusion block's
    arrays of fine pixels, a process that has imported TensorFlow and the units of its graph are common to both.

    Args:
        load: what goes through the network at once.
        training: whether it is a step of training.
    """
    times = load.units if training else 1
    return [times * load.features, times * load.attention, load.fine, load.units, 1.0]


def peak_bytes(load: Workload, training: bool = False) -> float:
    """The most memory that a process on a CPU is expected to hold in float32, TensorFlow itself included.

    Of a forward pass in the form of `spinet_tf.models.folded`, or of a step of training. The constants come from
    `python -m tests.benchmarks.scale`, with TensorFlow 2.21; there the formula is off by 3 % at most. Those of a
    step are from before it took a quarter less, so they are on the safe side: 3.8 GB for the paper's, which takes 2.9.

    Example:
        >>> peak_bytes(Workload(batch=1, frames=20, pixels=128 * 128)) / 1e9
        1.7...
    """
    constants = _STEP if training else _FORWARD
    return sum(constant * term for constant, term in zip(constants, memory_terms(load, training), strict=True))
