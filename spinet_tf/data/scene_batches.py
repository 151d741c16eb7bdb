"""Batches cut from scenes themselves: random windows to train on, a grid of them to validate on. No TensorFlow."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import xarray as xr

from spinet_tf.data.batches import Batch, Batches, PatchShape, bucketed, collate, require_step
from spinet_tf.data.patches import (
    Patch,
    Weights,
    grid_windows,
    label_scale,
    labelled,
    own_weight,
    random_patch,
    read_patch,
    require_size,
)
from spinet_tf.data.sampling import BATCH, PASS, PATCH, TURN, VISIT, Sampling, stream
from spinet_tf.errors import SpinetError

# A scene, or a function that opens it when its turn comes.
Source = xr.Dataset | Callable[[], xr.Dataset]

Result = TypeVar("Result")

# Patches cut from a scene each time its turn comes, and patches that are mixed before batches are made of them.
_PER_VISIT = 8
_MIXED = 128


class SceneStore:
    """Labelled scenes by number: the first ones kept in memory, up to a budget, and the last one used.

    All scenes are opened and used in one thread of Python's: in the threads of TensorFlow PROJ crashes the process.

    Args:
        scenes: labelled scenes, or functions without arguments that open one. All have labels equally much finer than
            their images.
        bands: names of the bands in the model's order; None for those of the first scene.
        weights: what label pixels weigh, see `labelled`.
        patch: height and width of the patches to come, in pixels of the images.
        memory: bytes of scenes to keep.

    Attributes:
        shape: the shape of a patch.

    Raises:
        SpinetError: if there are no scenes, or one given as a dataset cannot be used.
    """

    def __init__(
        self, scenes: Sequence[Source], bands: Sequence[str] | None, weights: Weights, patch: int, memory: int
    ):
        if not scenes:
            raise SpinetError("Expected at least one scene. Received none.")
        self._scenes, self._bands, self._weights, self._patch = scenes, bands, weights, patch
        self._kept: dict[int, xr.Dataset] = {}
        self._last: tuple[int, xr.Dataset] | None = None
        self._left = memory
        self._scale: int | None = None
        self._thread = ThreadPoolExecutor(1, "scenes")
        self._bands, self._scale = self.use(
            0, lambda scene: ([str(name) for name in scene["band"].values], label_scale(scene))
        )
        fine = self._scale * patch
        self.shape = PatchShape((patch, patch, len(self._bands)), (fine, fine, 1))
        for number, scene in enumerate(scenes):
            if isinstance(scene, xr.Dataset):
                self.use(number, label_scale)

    def __len__(self) -> int:
        return len(self._scenes)

    def use(self, number: int, function: Callable[[xr.Dataset], Result]) -> Result:
        """Call a function with a scene, as `labelled` makes it, and return what it returns."""
        return self._thread.submit(lambda: function(self._open(number))).result()

    def _open(self, number: int) -> xr.Dataset:
        if number in self._kept:
            return self._kept[number]
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        # Let go of it before the next one takes as much memory.
        self._last = None
        source = self._scenes[number]
        scene = labelled(source if isinstance(source, xr.Dataset) else source(), self._bands, self._weights)
        require_size(scene, self._patch)
        if self._scale not in (None, label_scale(scene)):
            raise SpinetError(
                f"Expected labels {self._scale} times finer than images in every scene, as in the first. "
                f"{scene.attrs.get('name', 'A scene')}: {label_scale(scene)} times"
            )
        if scene.nbytes <= self._left:
            self._left -= scene.nbytes
            self._kept[number] = scene = scene.compute()
        else:
            self._last = number, scene
        return scene


class _Cut(NamedTuple):
    """A patch with the largest number of frames it may have, and the clear fraction of each."""

    patch: Patch
    clear: np.ndarray
    name: str


class SceneBatches(Batches):
    """Batches of random windows of scenes without end, each a function of the seed and its number alone.

    Each patch has a random place where ground was seen and some label is known, and frames chosen by how much clear
    ground they show inside it. Patches are cut eight at a time from scene after scene, all scenes in random order
    before one comes again; 128 of them (or one batch, where that is more) are cut, mixed, and divided into batches
    by length. So batches are quick to get in order, and one alone takes as long as all that it was mixed with.

    Any thread may ask for any batch. In memory are the scenes kept, at most one more, and two times 128 patches; one
    patch of 20 frames of 32x32 pixels and 12 bands takes 0.5 MB.

    Args:
        scenes: labelled scenes, or functions without arguments that open one. All have labels equally much finer than
            their images.
        bands: names of the bands in the model's order; None for those of the first scene.
        patch: height and width of a patch, in pixels of the images.
        sampling: how patches are drawn and varied.
        batch: patches in a batch.
        steps: batches that count as an epoch.
        weights: what label pixels weigh, see `spinet_tf.data.patches.labelled`.
        seed: seed of everything random.
        memory: bytes of scenes to keep; further ones are opened anew each time their turn comes.

    Attributes:
        steps: batches that count as an epoch.

    Raises:
        SpinetError: if there are no scenes, a number is out of range, or a scene given as a dataset cannot be used.

    Example:
        scenes = [functools.partial(open_scene, path) for path in find_scenes("train")]
        batches = SceneBatches(scenes, bands=("B04", "B08"), sampling=Sampling("clearest"))
        model.fit(batch_dataset(batches), steps_per_epoch=batches.steps, shuffle=False)
    """

    # All cutting is done in one thread.
    parallel = 1

    def __init__(
        self,
        scenes: Sequence[Source],
        bands: Sequence[str] | None = None,
        patch: int = 32,
        sampling: Sampling | None = None,
        batch: int = 8,
        steps: int = 100,
        weights: Weights = "uniform",
        seed: int = 0,
        memory: int = 2 << 30,
    ):
        if min(batch, steps) < 1:
            raise SpinetError(f"Expected a batch and steps of at least 1. Received: {batch} and {steps}")
        self._store = SceneStore(scenes, bands, weights, patch, memory)
        self.sampling, self.batch, self.steps, self.seed = sampling or Sampling(), batch, steps, seed
        self.shape = self._store.shape
        self.lengths = self.sampling.counts
        self.ahead = self._per_block = max(_MIXED // batch, 1)
        self._patch = patch
        # Shares of several workers in one process have these in common.
        self._blocks: dict[int, list[list[_Cut]]] = {}
        self._lock = threading.Lock()

    def __getitem__(self, step: int) -> Batch:
        sampling = self.sampling
        count = sampling.draw_count(stream(self.seed, BATCH, step))
        patches = []
        for row, cut in list(enumerate(self._plan(step)))[self._rows]:
            rng = stream(self.seed, PATCH, step, row)
            frames = sampling.drop(sampling.choose(cut.clear, count, rng), rng)
            patches.append(sampling.vary(cut.patch._replace(images=cut.patch.images[frames]), rng))
        return collate(patches, self.shape)

    def names(self, step: int) -> list[str]:
        return [cut.name for cut in self._plan(step)[self._rows]]

    def _plan(self, step: int) -> list[_Cut]:
        require_step(step, None)
        number, position = divmod(step, self._per_block)
        with self._lock:
            if number not in self._blocks:
                while len(self._blocks) > 1:
                    # The oldest, so that threads may be in two blocks that follow each other.
                    del self._blocks[next(iter(self._blocks))]
                self._blocks[number] = self._mixed(number)
            return self._blocks[number][position]

    def _mixed(self, block: int) -> list[list[_Cut]]:
        """The batches of one block of patches."""
        size = self._per_block * self.batch
        visits = -(-size // _PER_VISIT)
        cuts = [cut for visit in range(block * visits, (block + 1) * visits) for cut in self._visit(visit)][:size]
        rng = stream(self.seed, PASS, block)
        order = rng.permutation(size)
        lengths = np.array([len(cut.clear) for cut in cuts])
        return [[cuts[number] for number in row] for row in bucketed(order, lengths[order], self.batch, rng)]

    def _visit(self, visit: int) -> list[_Cut]:
        """The patches cut from the scene whose turn it is."""
        rng = stream(self.seed, VISIT, visit)
        turn, position = divmod(visit, len(self._store))
        number = int(stream(self.seed, TURN, turn).permutation(len(self._store))[position])
        return self._store.use(number, lambda scene: [self._cut(scene, rng) for _ in range(_PER_VISIT)])

    def _cut(self, scene: xr.Dataset, rng: np.random.Generator) -> _Cut:
        chosen: list[np.ndarray] = []

        def choose(clear: np.ndarray) -> np.ndarray:
            frames = self.sampling.choose(clear, self.sampling.counts[1], rng)
            chosen.append(clear[frames])
            return frames

        row, column, patch = random_patch(scene, self._patch, choose, rng, self.sampling.balance)
        return _Cut(patch, chosen[-1], _name(scene, row, column))


class _Window(NamedTuple):
    """A window of a grid: its place, the clear fraction of each frame inside it, and what to call it."""

    row: int
    column: int
    clear: np.ndarray
    name: str


class SceneGrid:
    """The windows that cover scenes, each label pixel counted once, as `GridBatches` takes them.

    Args:
        scenes: as for `SceneBatches`; all are opened at once.
        bands: as for `SceneBatches`.
        patch: height and width of a patch, in pixels of the images.
        weights: as for `SceneBatches`.
        memory: as for `SceneBatches`.

    Attributes:
        clear: float64 (patches, longest time), the clear fraction of each frame in each window.
        groups: int64 (patches,), the number of each patch's scene.

    Raises:
        SpinetError: if there are no scenes, or one cannot be used.

    Example:
        grid = SceneGrid([open_scene("eopatch-902")])
        GridBatches(grid, Sampling("all"), batch=8, groups=grid.groups)
    """

    def __init__(
        self,
        scenes: Sequence[Source],
        bands: Sequence[str] | None = None,
        patch: int = 32,
        weights: Weights = "uniform",
        memory: int = 2 << 30,
    ):
        self._store, self._patch = SceneStore(scenes, bands, weights, patch, memory), patch
        found = [self._store.use(number, self._windows) for number in range(len(scenes))]
        self.groups = np.repeat(np.arange(len(found)), [len(windows) for windows in found])
        self._windows_found = [window for windows in found for window in windows]
        self.clear = np.zeros((len(self), max((len(window.clear) for window in self._windows_found), default=0)))
        for number, window in enumerate(self._windows_found):
            self.clear[number, : len(window.clear)] = window.clear

    def __len__(self) -> int:
        return len(self._windows_found)

    def name(self, number: int) -> str:
        """The scene and place of a patch."""
        return self._windows_found[number].name

    def read(self, number: int, frames: np.ndarray) -> Patch:
        """Those frames of a patch, its label and its weight."""
        row, column, *_ = self._windows_found[number]
        patch = self._store.use(
            int(self.groups[number]), lambda scene: read_patch(scene, row, column, self._patch, frames)
        )
        return patch._replace(weight=own_weight(patch.weight, row, column, self._patch))

    def _windows(self, scene: xr.Dataset) -> list[_Window]:
        valid, size = scene["valid"].to_numpy(), self._patch
        windows = []
        for row, column, _ in grid_windows(scene, size):
            clear = valid[:, row : row + size, column : column + size].mean(axis=(1, 2), dtype="float64")
            windows.append(_Window(row, column, clear, _name(scene, row, column)))
        return windows


def _name(scene: xr.Dataset, row: int, column: int) -> str:
    return f"{scene.attrs.get('name', 'a scene')} at row {row}, column {column}"
