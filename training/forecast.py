"""What a run would cost, found out before it: `python -m training.train --dry-run`."""

from pathlib import Path

import keras

from spinet_tf.data.batches import Batches
from spinet_tf.metrics import MatthewsCorrelation
from training.config import Config
from training.cost import count_macs, measure_step
from training.data import open_data
from training.network import build_model

# Batches of which the longest stands for all, where a patch may take any number of frames.
_LOOKED_AT = 8


def dry_run(config: Config, data: Path) -> None:
    """Print sizes, and the time and memory of a run as a few real steps on random data show them.

    Args:
        config: what would be trained.
        data: on what, as `training.train` takes it.
    """
    opened = open_data(config, data)
    keras.utils.set_random_seed(config.seed)
    model = build_model(config, opened, MatthewsCorrelation(from_logits=True))
    frames = _frames(config, opened.training)
    part = config.batch // config.accumulate
    macs = count_macs(model, 1, frames, opened.patch)
    cost = measure_step(model, part, frames, opened.patch, opened.scale)
    updates = config.epochs * opened.steps
    hours = updates * config.accumulate * cost.seconds / 3600
    print(f"Split: {opened.split}")
    print(f"Model: {model.count_params():,} parameters")
    print(f"Forward pass: {macs / 1e9:.2f} GMAC for a patch of {frames} frames of {opened.patch}x{opened.patch} pixels")
    print(
        f"Steps: {config.epochs} epochs of {opened.steps} updates of {config.batch} patches"
        + (f", each in {config.accumulate} parts" if config.accumulate > 1 else "")
    )
    print(f"Time: {cost.seconds:.2f} s for {part} patches: {hours:.1f} hours, and the validation after each epoch")
    print(f"Memory: {cost.peak_bytes / 2**30:.1f} GB at most")


def _frames(config: Config, training: Batches) -> int:
    """The most frames that a batch is expected to have."""
    if config.frames == "all":
        return max(training[step].images.shape[1] for step in range(_LOOKED_AT))
    count = config.frame_count
    return count if isinstance(count, int) else max(count)
