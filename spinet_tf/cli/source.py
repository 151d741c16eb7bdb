"""The options that say which scene is meant."""

import argparse

import xarray as xr


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `open_scene` takes besides the source itself."""
    group = parser.add_argument_group("which part of the source")
    add = group.add_argument
    add("--area", metavar="AREA", help="WEST,SOUTH,EAST,NORTH in degrees, or a GeoJSON file with a polygon")
    add("--dates", metavar="FROM/TO", help="such as 2019-03-01/2019-09-01")
    add(
        "--max-image-cloud",
        type=float,
        metavar="FRACTION",
        help="the cloudy fraction that an image may have by its own metadata (STAC, SAFE)",
    )
    add("--collection", metavar="NAME", help="of a STAC API, such as sentinel-2-l2a")
    add("--pattern", metavar="NAME", help="how GeoTIFFs are named: S2_{date}_{band}.tif")
    add("--band-order", metavar="BANDS", help="of GeoTIFFs that do not name their bands: B02,B03,B04,B08")
    add(
        "--offset",
        type=float,
        metavar="NUMBER",
        help="what is added to digital numbers, -1000 for example, against what the metadata say",
    )
    add("--resolution", type=float, metavar="UNITS", help="side of the pixels (default: of the finest band)")


def open_source(source: str, args: argparse.Namespace) -> xr.Dataset:
    """Open the scene at `source`, as far as `args`, of a parser with these options, want it."""
    from spinet_tf.data.scene import open_scene

    return open_scene(
        source,
        area=args.area,
        dates=args.dates,
        max_cloud=args.max_image_cloud,
        collection=args.collection,
        pattern=args.pattern,
        band_order=args.band_order,
        offset=args.offset,
        resolution=args.resolution,
    )


def size(dataset: xr.Dataset) -> str:
    """Rows and columns, for people."""
    return f"{dataset.sizes['y']} x {dataset.sizes['x']} pixels"


def date(scene: xr.Dataset, frame: int) -> str:
    """When a frame was taken; its number where the scene has no dates."""
    return str(scene["time"].values[frame])[:10] if "time" in scene.coords else f"number {frame}"
