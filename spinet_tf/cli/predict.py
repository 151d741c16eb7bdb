"""spinet predict: a scene into a map."""

import argparse
from typing import get_args

import xarray as xr

from spinet_tf.cli.source import add_source_arguments, date, open_source, size
from spinet_tf.tiling import TILE, WINDOW, MeansOf

SUMMARY = "map a scene with a model"
EXAMPLES = """examples:
  spinet predict scenes/eopatch-001 --model best.keras -o map.tif
  spinet predict products/ --area field.geojson --dates 2019-03-01/2019-09-01 --model models/spinet -o map.tif \\
      --threshold 0.5 --polygons fields.gpkg --quicklook map.png --uncertainty
  spinet predict scene.nc --model grpc://127.0.0.1:8500/spinet -o map.tif --overwrite"""

# With fewer dates MCC is far below that with all: training/results/ablations/table.md.
FEW = 4

SOURCES = (
    "an EOPatch, .nc, .zarr, folder of GeoTIFFs, .SAFE product or folder of them, STAC items in a .json file or a "
    "folder, or the address of a STAC API"
)
MODELS = (
    "a .keras file, a SavedModel's folder, an .onnx file, the preset tiny-simulated, or grpc://host:port/name of a "
    "server"
)


def run(args: argparse.Namespace) -> None:
    """Map the probability of cultivated land over a scene of any size. Run again after an interruption, it goes on."""
    from spinet_tf.inference import predict_scene

    scene = open_source(args.scene, args)
    print(
        f"Scene {scene.attrs['name']}: {size(scene)}, {scene.sizes['time']} dates, {date(scene, 0)} to "
        f"{date(scene, -1)}",
        flush=True,
    )
    result = predict_scene(
        args.model,
        scene,
        args.output,
        frames=args.frames,
        count=args.count,
        max_cloud=args.max_cloud,
        tile=args.tile,
        overlap=args.overlap,
        seam_free=args.seam_free,
        means=args.means,
        uncertainty=args.uncertainty,
        valid_frames=args.valid_frames,
        threshold=args.threshold,
        dtype=args.dtype,
        polygons=args.polygons,
        min_area=args.min_area,
        simplify=args.simplify,
        quicklook=args.quicklook,
        stac_item=args.stac_item,
        batch=args.batch,
        dask=args.dask,
        overwrite=args.overwrite,
    )
    _print_facts(result, scene, args.model)
    first, *further = result.attrs["files"]
    print(f"Wrote {first}: {size(result)}")
    for path in further:
        print(f"Wrote {path}")


def _print_facts(result: xr.Dataset, scene: xr.Dataset, model: str) -> None:
    facts = result.attrs
    frames, (fewest, most) = facts["frames"], facts["frames_per_tile"]
    height, width = facts["tile"]
    print(f"Model {model}")
    in_tiles = f"{most}" if fewest == most else f"{fewest} to {most}"
    print(f"Used {len(frames)} dates, {date(scene, frames[0])} to {date(scene, frames[-1])}; {in_tiles} in each tile")
    if fewest < FEW:
        print(f"Caution: a map of fewer than {FEW} dates is often wrong. See --dates and --max-cloud for more.")
    resumed = f", {facts['resumed']} of them kept from an earlier run" if facts["resumed"] else ""
    shared = ", with the means of the scene" if facts["means"] == "scene" else ""
    print(f"Tiles: {facts['tiles']} of {height} x {width} pixels{shared}, in {facts['blocks']} blocks{resumed}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("scene", help=SOURCES)
    add("--model", required=True, help=MODELS)
    add("-o", "--output", required=True, help="the GeoTIFF of probabilities; other layers are written beside it")
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add_source_arguments(parser)

    add = parser.add_argument_group("frames and tiles").add_argument
    add(
        "--frames",
        choices=("all", "clearest"),
        default="all",
        help="of each tile: all frames that are clear enough around it, or only the clearest (default: %(default)s)",
    )
    add(
        "--max-cloud",
        type=float,
        default=0.25,
        metavar="FRACTION",
        help="how much of the 5 km around a tile may not be clear, for `all` (default: %(default)s)",
    )
    add("--count", type=int, default=20, help="how many frames, for `clearest` (default: %(default)s)")
    add("--tile", type=int, help=f"side of the tiles seen at once, in pixels (default: {TILE}, or what memory allows)")
    add("--overlap", type=int, help="pixels over which tiles are blended (default: a quarter of a tile)")
    add(
        "--seam-free",
        type=int,
        nargs="?",
        const=WINDOW,
        default=False,
        metavar="WINDOW",
        help="see windows at fixed places instead, so that no answer depends on the tiling; four times the time "
        "(default size: %(const)s)",
    )
    add(
        "--means",
        choices=get_args(MeansOf),
        default="scene",
        help="what TEFA and TERN take their means over: the scene, found by a look at up to 16 tiles, so that all are "
        "answered as the scene would be; or each tile (default: %(default)s)",
    )
    add("--batch", type=int, help="tiles seen at once (default: by their size)")
    add("--dask", metavar="ADDRESS", help="a dask scheduler, whose workers compute: tcp://10.0.0.1:8786")

    add = parser.add_argument_group("outputs besides the probability").add_argument
    add("--dtype", choices=("float32", "uint8"), default="float32", help="of the files (default: %(default)s)")
    add("--threshold", type=float, metavar="P", help="write the class too: cultivated where the probability exceeds P")
    add(
        "--uncertainty",
        action="store_true",
        help="write the uncertainty too: the probability's standard deviation, up to 0.5, of a model that gives it; "
        "else its entropy, 0 sure, 1 undecided",
    )
    add("--valid-frames", action="store_true", help="write the number of clear frames of each scene pixel too")
    add("--polygons", metavar="FILE", help="write the cultivated land as .gpkg, .fgb or .parquet (threshold 0.5)")
    add("--min-area", type=float, default=0.1, metavar="HA", help="the smallest polygon (default: %(default)s ha)")
    add(
        "--simplify",
        type=float,
        default=1.5,
        metavar="PIXELS",
        help="what outlines are smoothed by, 0 for not at all (default: %(default)s)",
    )
    add("--quicklook", metavar="PNG", help="draw the map beside the clearest image")
    add("--stac-item", metavar="JSON", help="write a STAC item of everything written")
