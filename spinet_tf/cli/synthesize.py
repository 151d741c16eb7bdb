"""spinet synthesize: simulated scenes."""

import argparse

SUMMARY = "write simulated scenes"
EXAMPLES = "example:\n  spinet synthesize scenes --count 8 --size 128 --dates 20 --seed 1"


def run(args: argparse.Namespace) -> None:
    """Simulate scenes of farmland, with the truth, in the layout of the AI4EO challenge."""
    from spinet_tf.data.simulate import synthesize

    for path in synthesize(args.folder, args.count, args.size, args.dates, args.seed, args.overwrite):
        print(f"Wrote {path}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("folder", help="where the EOPatches eopatch-001, eopatch-002, ... are written")
    add("--count", type=int, default=4, help="how many scenes (default: %(default)s)")
    add("--size", type=int, default=128, help="their side in 10 m pixels (default: %(default)s)")
    add("--dates", type=int, default=20, help="how many dates each has (default: %(default)s)")
    add("--seed", type=int, default=0, help="other seeds give other scenes (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace scenes that exist")
