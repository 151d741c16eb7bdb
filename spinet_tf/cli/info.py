"""spinet info: what a scene or a model holds."""

import argparse
import json
from pathlib import Path

import xarray as xr

from spinet_tf.cli.source import add_source_arguments, date, open_source, size

SUMMARY = "say what a scene or a model holds"
EXAMPLES = """examples:
  spinet info scenes/eopatch-001
  spinet info products/ --area 14.5,46.0,14.6,46.1 --dates 2019-03-01/2019-09-01
  spinet info best.keras"""


def run(args: argparse.Namespace) -> None:
    """Say what a scene or a model holds."""
    if Path(args.path).suffix == ".keras":
        _print_model(args.path)
    else:
        _print_scene(open_source(args.path, args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("path", help="a scene, or a .keras file")
    add_source_arguments(parser)


def _print_model(path: str) -> None:
    from spinet_tf.inference.model import load_model

    model = load_model(path)
    print(f"model       {type(model).__name__}")
    print(f"bands       {' '.join(getattr(model, 'band_names', None) or ['not named'])}")
    print(f"scale       {getattr(model, 'scale', 'not named')}")
    print(f"parameters  {model.count_params():,}")
    print(f"config      {json.dumps(model.get_config())}")


def _print_scene(scene: xr.Dataset) -> None:
    from spinet_tf.data.scene import clear_fraction

    print(f"scene       {scene.attrs['name']}")
    print(f"size        {size(scene)}")
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
        print(f"            {date(scene, frame)}  {fraction:4.0%} clear")
