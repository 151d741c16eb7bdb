"""The command line: spinet predict, synthesize, info."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from spinet_tf._version import __version__
from spinet_tf.errors import reports_errors
from spinet_tf.files import replacing

# Commands import what they need when they run: `spinet --help` works without the packages that read scenes.


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command line with `argv`, by default the program's own arguments."""
    args = _parser().parse_args(argv)
    args.run(args)


# === predict ===


def predict(args: argparse.Namespace) -> None:
    """Map the probability of cultivated land over a scene, with a model in this process."""
    from spinet_tf.inference.model import load_model

    make_map(args, lambda: load_model(args.model))


def add_map_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a map, whatever computes it: the scene, the output, which frames, and the tiles."""
    add = parser.add_argument
    add("scene", help="an EOPatch folder, a .nc or .zarr scene")
    add("-o", "--output", required=True, help="the GeoTIFF to write")
    add(
        "--frames",
        choices=("all", "clearest"),
        default="all",
        help="all frames that are clear enough, or only the clearest (default: %(default)s)",
    )
    add(
        "--max-cloud",
        type=float,
        default=0.25,
        metavar="FRACTION",
        help="how much of a frame may not be clear, for `all` (default: %(default)s)",
    )
    add("--count", type=int, default=20, help="how many frames, for `clearest` (default: %(default)s)")
    add("--tile", type=int, default=64, help="side of the tiles seen at once, in pixels (default: %(default)s)")
    add("--overlap", type=int, default=8, help="pixels over which tiles are blended (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the output if it exists")


def make_map(args: argparse.Namespace, open_model: Callable) -> None:
    """Map `args.scene` into the GeoTIFF `args.output`, and print what was used and written.

    Args:
        args: from a parser that `add_map_arguments` filled.
        open_model: returns a Keras model or another engine; called once the output is known to be writable.

    Raises:
        SpinetError: for anything that cannot be used; the output is then as it was before.
    """
    from spinet_tf.data.scene import open_scene
    from spinet_tf.inference import predict_scene, write_cog

    # Around all of the work, so that an output that may not be replaced is refused before it, not after.
    with replacing(args.output, overwrite=args.overwrite) as temporary:
        model = open_model()
        scene = open_scene(args.scene)
        print(f"Scene {scene.attrs['name']}: {_size(scene)}, {scene.sizes['time']} dates", flush=True)
        result = predict_scene(model, scene, args.frames, args.count, args.max_cloud, args.tile, args.overlap)
        write_cog(result, temporary)
    frames = result.attrs["frames"]
    print(f"Used {len(frames)} dates, {_date(scene, frames[0])} to {_date(scene, frames[-1])}")
    print(f"Wrote {args.output}: {_size(result)}")


# === synthesize ===


def synthesize(args: argparse.Namespace) -> None:
    """Simulate scenes of farmland, with the truth, in the layout of the AI4EO challenge."""
    from spinet_tf.data.simulate import synthesize

    for path in synthesize(args.folder, args.count, args.size, args.dates, args.seed, args.overwrite):
        print(f"Wrote {path}")


# === info ===


def info(args: argparse.Namespace) -> None:
    """Say what a scene or a model holds."""
    if Path(args.path).suffix == ".keras":
        _print_model(args.path)
    else:
        _print_scene(args.path)


def _print_model(path: str) -> None:
    from spinet_tf.inference.model import load_model

    model = load_model(path)
    print(f"model       {type(model).__name__}")
    print(f"bands       {' '.join(getattr(model, 'band_names', None) or ['not named'])}")
    print(f"scale       {getattr(model, 'scale', 'not named')}")
    print(f"parameters  {model.count_params():,}")
    print(f"config      {json.dumps(model.get_config())}")


def _print_scene(path: str) -> None:
    from spinet_tf.data.scene import clear_fraction, open_scene

    scene = open_scene(path)
    print(f"scene       {scene.attrs['name']}")
    print(f"size        {_size(scene)}")
    print(f"CRS         {scene.rio.crs or 'none'}")
    if "y" in scene.coords and "x" in scene.coords:
        print(f"bounds      {' '.join(f'{bound:.10g}' for bound in scene.rio.bounds())}")
    print(f"bands       {' '.join(scene['band'].values)}")
    if "label" in scene:
        label = scene["label"].to_numpy()
        print(
            f"label       {label.shape[0]} x {label.shape[1]} pixels: {(label == 1).mean():.1%} cultivated, "
            f"{(label == 0).mean():.1%} not, {(label == 255).mean():.1%} unknown"
        )
    print(f"dates       {scene.sizes['time']}")
    for frame, fraction in enumerate(clear_fraction(scene)):
        print(f"            {_date(scene, frame)}  {fraction:4.0%} clear")


def _size(dataset) -> str:
    return f"{dataset.sizes['y']} x {dataset.sizes['x']} pixels"


def _date(scene, frame: int) -> str:
    # Without dates, frames have their numbers only.
    return str(scene["time"].values[frame])[:10] if "time" in scene.coords else f"number {frame}"


# === arguments ===


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spinet",
        description="Maps of cultivated land, four times finer than the Sentinel-2 time series they are made from.",
        epilog="examples:\n"
        "  spinet synthesize scenes --count 4\n"
        "  spinet info scenes/eopatch-001\n"
        "  spinet predict scenes/eopatch-001 --model best.keras -o map.tif",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spinet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _command(
        commands,
        predict,
        "map a scene with a model",
        "examples:\n"
        "  spinet predict scenes/eopatch-001 --model best.keras -o map.tif\n"
        "  spinet predict scene.nc --model best.keras -o map.tif --frames clearest --count 9 --overwrite",
    )
    add.add_argument("--model", required=True, help="the .keras file")
    add_map_arguments(add)

    add = _command(
        commands,
        synthesize,
        "write simulated scenes",
        "example:\n  spinet synthesize scenes --count 8 --size 128 --dates 20 --seed 1",
    )
    add.add_argument("folder", help="where the EOPatches eopatch-001, eopatch-002, ... are written")
    add.add_argument("--count", type=int, default=4, help="how many scenes (default: %(default)s)")
    add.add_argument("--size", type=int, default=128, help="their side in 10 m pixels (default: %(default)s)")
    add.add_argument("--dates", type=int, default=20, help="how many dates each has (default: %(default)s)")
    add.add_argument("--seed", type=int, default=0, help="other seeds give other scenes (default: %(default)s)")
    add.add_argument("--overwrite", action="store_true", help="replace scenes that exist")

    add = _command(
        commands,
        info,
        "say what a scene or a model holds",
        "examples:\n  spinet info scenes/eopatch-001\n  spinet info best.keras",
    )
    add.add_argument("path", help="a scene, or a .keras file")
    return parser


def _command(commands, run: Callable, summary: str, examples: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        run.__name__,
        help=summary,
        description=run.__doc__,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
