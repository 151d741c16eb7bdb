"""A set of patches in memory, in which every value tells where it came from."""

import numpy as np

from spinet_tf.data.patches import Patch

SIZE, SCALE, BANDS = 4, 2, 3


class MadePatches:
    """As `spinet_tf.data.shards.PatchSet`: band 0 holds the patch + 1, band 1 the frame + 1, band 2 the pixel + 1.

    The label is the parity of the patch and the fine pixel, the weight the fine pixel + 1 in thousandths.
    """

    def __init__(self, lengths, seed=0):
        rng = np.random.default_rng(seed)
        self.frames = np.asarray(lengths)
        real = np.arange(self.frames.max(initial=1)) < self.frames[:, None]
        self.clear = np.where(real, rng.uniform(0.01, 1, real.shape), 0).astype("float32")
        self.known = np.full(len(self.frames), float((SIZE * SCALE) ** 2))
        self.cultivated = np.floor(self.known * rng.random(len(self.frames)))

    def __len__(self):
        return len(self.frames)

    def name(self, number):
        return f"made {number}"

    def read(self, number, frames):
        assert np.all(frames < self.frames[number])
        images = np.empty((len(frames), SIZE, SIZE, BANDS), "uint16")
        images[..., 0] = number + 1
        images[..., 1] = frames[:, None, None] + 1
        images[..., 2] = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) + 1
        fine = np.arange((SCALE * SIZE) ** 2).reshape(SCALE * SIZE, SCALE * SIZE, 1)
        return Patch(images, ((fine + number) % 2).astype("uint8"), ((fine + 1) / 1000).astype("float32"))


def numbers(batch):
    """Which patch each row of a batch shows, the frames of each, and that its padding is empty."""
    rows = []
    for images, real in zip(batch.images, batch.num_frames, strict=True):
        assert not images[real:].any()
        assert images[:real].all()
        assert np.ptp(images[:real, ..., 0]) == 0
        assert np.all(images[:real, ..., 1] == images[:real, :1, :1, 1])
        rows.append((int(images[0, 0, 0, 0]) - 1, images[:real, 0, 0, 1].astype(int) - 1))
    return rows


def assert_equal(left, right):
    """The same batch, to the last bit."""
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
