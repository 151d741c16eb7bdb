"""PIUnet on its own task: a band of 10 m from nine images of 30 m that are simulated from it, against bicubic."""

import dataclasses
import functools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import ndimage

from spinet_tf import PIUnet
from spinet_tf.data.sampling import stream
from spinet_tf.data.scene import clear_fraction, find_scenes, select_bands
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.layers import BicubicUpsampling
from spinet_tf.losses import RegisteredL1, RegisteredLaplace
from spinet_tf.metrics import cpsnr
from spinet_tf.progress import track
from training.checkpoint import Progress, load_checkpoint, read_identity, save_checkpoint, weights_of
from training.compare_config import CompareConfig, SuperResolution, folder_name
from training.compare_runs import RUNS, kept, training_parts
from training.cost import count_macs
from training.split import Part

SCALE = 3

# Of an image of 30 m: how far it lies from the truth (in pixels of 10 m, standard deviation), the Gaussian blur of its
# optics (likewise), how much brighter or darker it is, and its noise (in standard deviations of the band).
SHIFT, BLUR, GAIN, NOISE = 1.0, 0.8, 0.02, 0.02

# Shifts are cut off here, and so much of the truth around a patch is needed to simulate it.
_FARTHEST = 3
_MARGIN = _FARTHEST + 6
# What random numbers are drawn for: training and test share none.
_TRAINING, _TEST = 0, 1


def super_resolution_table(comparison: CompareConfig, output: Path) -> dict[str, Any] | None:
    """Train PIUnet with every seed where that is not done yet, and score it and bicubic on the scenes of the test.

    Args:
        comparison: names scenes, seeds and sizes.
        output: of the comparison.

    Returns:
        cPSNR of bicubic interpolation of the mean, parameters, multiply-accumulates, and the runs with their cPSNR;
        None where none is asked for.

    Raises:
        SpinetError: if scenes cannot be used, or a run there has other settings.
    """
    wanted = comparison.super_resolution
    if wanted is None:
        return None
    runs = []
    for seed in comparison.seeds:
        settings = {"training": str(comparison.fit), "test": str(comparison.test), "seed": seed}
        settings |= dataclasses.asdict(wanted)
        folder = output / RUNS / folder_name("PIUnet") / f"seed-{seed}"
        run = functools.partial(_train_and_score, comparison, wanted, seed, json.dumps(settings, sort_keys=True))
        runs.append({"seed": seed, **kept(folder, settings, run)})
    first = runs[0]
    return {
        "bicubic": first["bicubic"],
        "parameters": first["parameters"],
        "macs": first["macs"],
        "runs": [{"seed": run["seed"], "cpsnr": run["cpsnr"]} for run in runs],
    }


def read_truths(parts: Sequence[Part], band: str) -> list[np.ndarray]:
    """A band of the clearest frame of each scene, float32 (rows, columns), digital numbers."""
    truths = []
    for part in track(parts, "Reading scenes", len(parts)):
        scene = select_bands(part(), [band])
        clearest = int(np.argmax(clear_fraction(scene)))
        truths.append(scene["bands"][clearest, 0].to_numpy().astype("float32"))
    return truths


def simulate_series(
    truth: np.ndarray, frames: int, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images three times coarser than a truth, each shifted, blurred, brighter or darker, and noisy.

    Args:
        truth: (rows, columns).
        frames: how many images.
        noise: its standard deviation, in the truth's units.
        rng: where everything random is drawn from.

    Returns:
        float32 (frames, h, w) images of what lies at least `_MARGIN` inside the truth, and float32 (3 h, 3 w), the
        truth of the same place. The first image is not shifted.
    """
    rows, columns = (SCALE * ((side - 2 * _MARGIN) // SCALE) for side in truth.shape)
    inside = np.s_[_MARGIN : _MARGIN + rows, _MARGIN : _MARGIN + columns]
    blurred = ndimage.gaussian_filter(truth, BLUR, mode="nearest")
    images = []
    for number in range(frames):
        shift = np.clip(rng.normal(0, SHIFT, 2), -_FARTHEST, _FARTHEST) if number else (0, 0)
        moved = ndimage.shift(blurred, shift, order=3, mode="nearest")[inside]
        coarse = moved.reshape(rows // SCALE, SCALE, columns // SCALE, SCALE).mean(axis=(1, 3))
        images.append(coarse * np.exp(rng.normal(0, GAIN)) + rng.normal(0, noise, coarse.shape))
    return np.stack(images).astype("float32"), truth[inside].astype("float32")


def _train_and_score(
    comparison: CompareConfig, wanted: SuperResolution, seed: int, identity: str, folder: Path
) -> dict[str, Any]:
    print(f"\nPIUnet, seed {seed}")
    truths = read_truths(training_parts(comparison), wanted.band)
    tests = read_truths([Part(path) for path in find_scenes(comparison.test)], wanted.band)
    pixels = np.concatenate([truth.ravel() for truth in truths])
    mean, std = float(pixels.mean()), float(pixels.std())
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = PIUnet(SCALE, wanted.filters, wanted.tefa_blocks, wanted.bottleneck)
    steps = -(-wanted.steps // wanted.epochs)
    # Schedule and clipping of the other systems.
    schedule = keras.optimizers.schedules.CosineDecay(wanted.learning_rate, steps * wanted.epochs)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    progress = Progress(identity=identity)
    model.compile(optimizer, RegisteredL1())
    if read_identity(folder) == progress.identity:
        progress, _ = load_checkpoint(folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in range(progress.epoch, wanted.epochs):
        # As published: the scale is learnt once the mean is about right.
        loss = RegisteredL1() if epoch == 0 else RegisteredLaplace()
        model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
        batches = _Batches(wanted, seed, truths, (mean, std), epoch * steps, steps)
        history = model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, verbose=2, shuffle=False).history
        if not np.isfinite(history["loss"][0]):
            raise SpinetError(
                f"PIUnet diverged: its loss is {history['loss'][0]}. Lower super_resolution.learning_rate."
            )
        progress.epoch = epoch + 1
        save_checkpoint(folder, progress, weights_of(model), [])
    with replacing(folder / "last.keras") as temporary:
        model.save(temporary)
    scores, bicubic = zip(
        *(_score(model, wanted, truth, number, (mean, std)) for number, truth in enumerate(tests)), strict=True
    )
    return {
        "cpsnr": statistics.fmean(scores),
        "bicubic": statistics.fmean(bicubic),
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        "macs": count_macs(model, 1, wanted.frames, wanted.patch),
    }


def _score(
    model: keras.Model, wanted: SuperResolution, truth: np.ndarray, number: int, statistics_of_band: tuple[float, float]
) -> tuple[float, float]:
    """The cPSNR of a model and of bicubic interpolation of the mean on a whole scene, whose images no seed changes."""
    mean, std = statistics_of_band
    images, target = simulate_series(truth, wanted.frames, NOISE * std, stream(0, _TEST, number))
    inputs = {"images": ((images - mean) / std)[None, ..., None], "frame_mask": np.ones((1, wanted.frames), bool)}
    predicted = ops.convert_to_numpy(model(inputs, training=False))[..., :1] * std + mean
    bicubic = BicubicUpsampling(SCALE)(images.mean(axis=0)[None, ..., None])
    known = np.stack([target, np.ones_like(target)], axis=-1)[None]
    return float(cpsnr(known, predicted)[0]), float(cpsnr(known, bicubic)[0])


class _Batches(keras.utils.PyDataset):
    """Batches by number: each depends on the seed and its number alone, so that a run can go on from any epoch."""

    def __init__(
        self,
        wanted: SuperResolution,
        seed: int,
        truths: list[np.ndarray],
        statistics_of_band: tuple[float, float],
        start: int,
        count: int,
    ):
        super().__init__()
        self.wanted, self.seed, self.truths = wanted, seed, truths
        self.mean, self.std = statistics_of_band
        self.start, self.count = start, count

    @property
    def num_batches(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rng = stream(self.seed, _TRAINING, self.start + index)
        side = SCALE * self.wanted.patch + 2 * _MARGIN
        images, targets = [], []
        for _ in range(self.wanted.batch):
            truth = self.truths[rng.integers(len(self.truths))]
            if min(truth.shape) < side:
                raise SpinetError(
                    f"Expected scenes of at least {side} pixels for patches of {self.wanted.patch} pixels of 30 m. "
                    f"Received: {truth.shape[0]} x {truth.shape[1]}. Lower super_resolution.patch."
                )
            row, column = (int(rng.integers(length - side + 1)) for length in truth.shape)
            patch = np.rot90(truth[row : row + side, column : column + side], int(rng.integers(4)))
            series, target = simulate_series(patch, self.wanted.frames, NOISE * self.std, rng)
            images.append((series - self.mean) / self.std)
            targets.append((target - self.mean) / self.std)
        target = np.stack(targets)
        inputs = {
            "images": np.stack(images)[..., None],
            "frame_mask": np.ones((len(images), self.wanted.frames), bool),
        }
        return inputs, np.stack([target, np.ones_like(target)], axis=-1)
