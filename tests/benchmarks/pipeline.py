"""How fast batches come from shards, and how much of them is padding.

Scenes are simulated and prepared in a temporary folder, so the shards are in the system's file cache; a disk must read
0.5 MB for a patch of 20 frames of 32x32 pixels and 12 bands.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from spinet_tf.data.batches import Batches, bucketed
from spinet_tf.data.pipeline import batch_dataset
from spinet_tf.data.sampling import Sampling
from spinet_tf.data.shard_batches import ShardBatches
from spinet_tf.data.shards import Shards
from spinet_tf.data.simulate import synthesize
from spinet_tf.errors import SpinetError, reports_errors

EPILOG = """examples:
  python -m tests.benchmarks.pipeline
  python -m tests.benchmarks.pipeline --size 256 --step 0.2
"""

PLAIN = {"augment": False}
VARIED = {"augment": True, "jitter": 0.05, "frame_dropout": 0.1, "balance": True}


def simulated_shards(folder: Path, scenes: int, size: int, dates: int) -> Shards:
    """Shards of simulated scenes, and of one more that validates."""
    synthesize(folder / "scenes", scenes + 1, size, dates)
    # By the command, whose processes then have nothing to do with TensorFlow's.
    command = [sys.executable, "-m", "training.prepare", str(folder / "scenes"), str(folder / "prepared")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Shards(folder / "prepared")


def patches_per_second(batches: Batches, count: int, runs: int) -> np.ndarray:
    """Patches that come through `batch_dataset` in a second, in each of several runs over `count` batches."""
    iterator = iter(batch_dataset(batches))
    rates = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        for _ in range(count):
            next(iterator)
        rates.append(count * batches.batch / (time.perf_counter() - started))
    # The first run starts threads and reads the shards into the cache.
    return np.array(rates[1:])


def padded_shares(shortest: int = 5, longest: int = 40, batch: int = 8, patches: int = 20_000) -> tuple[float, float]:
    """The shares of padding frames with and without bucketing, for lengths as likely as each other."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(shortest, longest + 1, patches)
    shares = []
    for rows in (bucketed(np.arange(patches), lengths, batch, rng), np.arange(patches).reshape(-1, batch)):
        shares.append(1 - lengths.sum() / (batch * lengths[rows].max(axis=1).sum()))
    return shares[0], shares[1]


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.pipeline",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenes", type=int, default=4, help="scenes to simulate (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="their height and width in pixels (default: %(default)s)")
    parser.add_argument("--dates", type=int, default=38, help="their dates (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="patches in a batch (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=100, help="batches in a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each setting (default: %(default)s)")
    # The paper's network on two cores, in float32: 1.42 s for a batch of one patch.
    parser.add_argument(
        "--step", type=float, default=11.4, metavar="SECONDS", help="what a training step takes (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if min(vars(arguments).values()) <= 0:
        raise SpinetError("Expected numbers above 0.")
    with tempfile.TemporaryDirectory() as folder:
        patches = simulated_shards(Path(folder), arguments.scenes, arguments.size, arguments.dates).training
        print(f"{len(patches)} patches of {np.count_nonzero(patches.clear, axis=1).mean():.0f} frames on average")
        print("\n| frames | augmentation | patches/s, median (range) | frames a patch | padding | share of a step |")
        print("|---|---|---|---|---|---|")
        for method in ("clearest", "random", "all"):
            for name, options in (("none", PLAIN), ("all of it", VARIED)):
                batches = ShardBatches(patches, Sampling(method, **options), arguments.batch)
                rates = patches_per_second(batches, arguments.batches, arguments.runs)
                lengths = np.array([batches[step].num_frames for step in range(min(arguments.batches, 50))])
                padding = 1 - lengths.sum() / (arguments.batch * lengths.max(axis=1).sum())
                share = arguments.batch / np.median(rates) / arguments.step
                print(
                    f"| {method} | {name} | {np.median(rates):,.0f} ({rates.min():,.0f}-{rates.max():,.0f}) "
                    f"| {lengths.mean():.1f} | {padding:.1%} | {share:.2%} |",
                    flush=True,
                )
    with_buckets, without = padded_shares()
    print(f"\nPadding where lengths are 5 to 40: {with_buckets:.1%} bucketed, {without:.1%} not")


if __name__ == "__main__":
    sys.exit(main())
