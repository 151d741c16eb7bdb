"""spinet view: a map as a page for the browser."""

import argparse
from pathlib import Path

from spinet_tf.cli.source import add_source_arguments, open_source

SUMMARY = "write a page to look at a map in a browser"
EXAMPLES = """examples:
  spinet view map.tif
  spinet view map.tif scenes/eopatch-001 -o page.html"""


def run(args: argparse.Namespace) -> None:
    """Write one HTML page that shows a map, its classes and uncertainty over the scene, and needs no network."""
    from spinet_tf.inference.view import write_view

    output = args.output or Path(args.map).with_suffix(".html")
    scene = None if args.scene is None else open_source(args.scene, args)
    write_view(args.map, output, scene, threshold=args.threshold, count=args.count, overwrite=args.overwrite)
    print(f"Wrote {output}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("map", help="a map of `spinet predict`; map_class.tif and map_uncertainty.tif beside map.tif are shown too")
    add("scene", nargs="?", help="what it was made from, shown under it date by date")
    add("-o", "--output", help="the page to write (default: the map's name with .html)")
    add(
        "--threshold",
        type=float,
        default=0.5,
        help="what cultivated land must exceed, where there is no map of classes (default: %(default)s)",
    )
    add("--count", type=int, default=20, help="how many dates are shown at most (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the page if it exists")
    add_source_arguments(parser)
