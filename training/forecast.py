"""What a run would cost, found out before it: `python -m training.train --dry-run`."""

from pathlib import Path

import keras

from spinet_tf.data.batches import Batches
from spinet_tf.memory import memory_at_hand
from spinet_tf.metrics import MatthewsCorrelation
from spinet_tf.models.cost import Workload, peak_bytes
from spinet_tf.models.spinet import SPInet
from training.config import Config
from training.cost import count_macs, has_gpu, measure_step
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
    print(f"Split: {opened.split}")
    print(f"Model: {model.count_params():,} parameters")
    print(f"Forward pass: {macs / 1e9:.2f} GMAC for a patch of {frames} frames of {opened.patch}x{opened.patch} pixels")
    print(
        f"Steps: {config.epochs} epochs of {opened.steps} updates of {config.batch} patches"
        + (f", each in {config.accumulate} parts" if config.accumulate > 1 else "")
    )
    needed = _expected_bytes(config, model, frames, opened.patch)
    if needed > (here := memory_at_hand()):
        print(
            f"Memory: about {needed / 1e9:.1f} GB by the formula, more than the {here / 1e9:.1f} GB here, so no step "
            "was tried. Fewer patches at once (`accumulate`), fewer frames or `remat` need less."
        )
        return
    cost = measure_step(model, part, frames, opened.patch, opened.scale)
    hours = config.epochs * opened.steps * config.accumulate * cost.seconds / 3600
    print(f"Time: {cost.seconds:.2f} s for {part} patches: {hours:.1f} hours, and the validation after each epoch")
    print(f"Memory: {cost.peak_bytes / 1e9:.1f} GB at most")


def _expected_bytes(config: Config, model: keras.Model, frames: int, size: int) -> float:
    """The memory that a step is expected to take, where there is a formula: for SPInet on a CPU; 0 otherwise."""
    if not isinstance(model, SPInet) or config.remat or config.precision != "float32" or has_gpu():
        return 0.0
    sizes = model.filters, model.tefa_blocks, model.scale, model.heads
    return peak_bytes(Workload(config.batch // config.accumulate, frames, size**2, *sizes), training=True)


def _frames(config: Config, training: Batches) -> int:
    """The most frames that a batch is expected to have."""
    if config.frames == "all":
        return max(training[step].images.shape[1] for step in range(_LOOKED_AT))
    count = config.frame_count
    return count if isinstance(count, int) else max(count)
