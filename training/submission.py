"""Map the test scenes of the AI4EO challenge, and write the maps as the zip that it takes.

The zip holds eopatch-01.tif to eopatch-25.tif: one band of 2000x2000 pixels, 1 cultivated and 0 not, without a nodata
value, in EPSG:32633, each with the bounds of its scene. Nothing else is ever written: what is not so is refused.
"""

import argparse
import sys
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import xarray as xr
from rasterio.coords import BoundingBox
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from spinet_tf.data.scene import find_scenes, open_scene, require_valid_frames, select_bands
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.engine import Engine, KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.inference.scene import predict_scene
from spinet_tf.progress import track
from training.evaluate import training_config
from training.scores import THRESHOLD

# What the challenge asks for: https://platform.ai4eo.eu/enhanced-sentinel2-agriculture-permanent
SCENES = tuple(f"eopatch-{number:02d}" for number in range(1, 26))
SIDE = 2000
CRS = "EPSG:32633"

# Metres by which the corners of a map may miss those of its scene, for the rounding of coordinates.
_TOLERANCE = 1e-3

EPILOG = """examples:
  python -m training.submission --model runs/paper/best.keras --data test -o submission.zip --threshold 0.43
  python -m training.submission --check submission.zip --data test
"""


def write_submission(
    model: keras.Model,
    data: Path,
    output: Path,
    threshold: float = THRESHOLD,
    max_cloud: float = 0.25,
    overwrite: bool = False,
) -> None:
    """Map the challenge's test scenes and write its zip.

    Args:
        model: a segmentation model such as `SPInet`.
        data: the folder of test scenes, all of them and nothing else; they need no label.
        output: the zip to write. It comes into being whole and checked, or not at all.
        threshold: probability above which land is called cultivated, such as `training.evaluate` chose.
        max_cloud: the cloudy fraction of a frame that the model sees at most.
        overwrite: whether an existing file may be replaced.

    Raises:
        SpinetError: if a scene is missing, unexpected, of another size or CRS or without georeference, before anything
            is mapped; or the zip would not be valid.

    Example:
        write_submission(load_model("best.keras"), Path("test"), Path("submission.zip"))
    """
    if not 0 < threshold < 1:
        raise SpinetError(f"Expected a threshold between 0 and 1, both excluded. Received: {threshold}")
    engine = KerasEngine(model)
    with replacing(output, overwrite=overwrite) as temporary:
        paths = _test_scenes(data)
        bounds = {path.stem: _look(path, engine) for path in track(paths, "Looking at the scenes")}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in track(paths, "Mapping"):
                probability = predict_scene(engine, open_scene(path), max_cloud=max_cloud)["probability"]
                unseen = int(probability.isnull().sum())
                if unseen:
                    print(f"{path.stem}: {unseen:,} pixels that no frame holds data for are 0, not cultivated")
                archive.writestr(f"{path.stem}.tif", _geotiff(probability, threshold))
        check_submission(temporary, bounds)
    print(f"Wrote {output}: {len(paths)} maps, cultivated above {threshold:g}, checked")


def check_submission(path: Path, bounds: Mapping[str, BoundingBox] | None = None) -> None:
    """Raise a SpinetError unless a file is a zip that the challenge takes.

    Args:
        path: the zip.
        bounds: of each scene, by name, in the challenge's CRS; None to leave the place of the maps unchecked.

    Raises:
        SpinetError: if it is not; the message names the map and says what is wrong with it.

    Example:
        check_submission(Path("submission.zip"), scene_bounds(Path("test")))
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SpinetError(f"Expected a zip. {path} cannot be read as one: {error}") from error
    with archive, warnings.catch_warnings():
        # Said below, as an error.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        names = archive.namelist()
        _require_names("maps", [f"{name}.tif" for name in SCENES], names)
        for name in track(names, "Checking"):
            try:
                with MemoryFile(archive.read(name)) as file, file.open() as image:
                    _check_map(image, name, bounds[Path(name).stem] if bounds else None)
            except (RasterioError, zipfile.BadZipFile, OSError) as error:
                raise SpinetError(f"{name} cannot be read as a GeoTIFF: {error}. Write it again.") from error


def scene_bounds(data: Path) -> dict[str, BoundingBox]:
    """The bounds of the challenge's test scenes, by name.

    Args:
        data: the folder of test scenes, all of them and nothing else.

    Returns:
        Outer edges in metres of the challenge's CRS.

    Raises:
        SpinetError: if a scene is missing, unexpected, of another size or CRS or without georeference.

    Example:
        scene_bounds(Path("test"))["eopatch-01"].left
    """
    return {path.stem: _bounds(open_scene(path)) for path in track(_test_scenes(data), "Looking at the scenes")}


def _test_scenes(data: Path) -> list[Path]:
    paths = find_scenes(data)
    _require_names(f"scenes in {data}", SCENES, [path.stem for path in paths])
    return paths


def _require_names(what: str, expected: Sequence[str], received: Sequence[str]) -> None:
    if sorted(received) == sorted(expected):
        return
    problems = []
    for problem, names in (
        ("missing", [name for name in expected if name not in received]),
        ("unexpected", [name for name in received if name not in expected]),
        ("more than once", sorted({name for name in received if received.count(name) > 1})),
    ):
        if names:
            problems.append(f"{problem}: {', '.join(names)}")
    raise SpinetError(
        f"Expected the {len(expected)} {what} {expected[0]} to {expected[-1]} and nothing else. Received "
        f"{len(received)}, {'; '.join(problems)}."
    )


def _look(path: Path, engine: Engine) -> BoundingBox:
    """Open a scene, raise a SpinetError if it cannot be mapped as the challenge asks, and say where it lies."""
    scene = open_scene(path)
    require_valid_frames(scene)
    select_bands(scene, engine.band_names or ())
    height, width = scene.sizes["y"], scene.sizes["x"]
    if (height * engine.scale, width * engine.scale) != (SIDE, SIDE):
        raise SpinetError(
            f"Expected scenes whose maps have {SIDE}x{SIDE} pixels. {scene.attrs['name']}: {height}x{width}, which the "
            f"model makes {engine.scale} times finer."
        )
    return _bounds(scene)


def _bounds(scene: xr.Dataset) -> BoundingBox:
    name = scene.attrs["name"]
    if scene.rio.crs is None or "y" not in scene.coords or "x" not in scene.coords:
        raise SpinetError(f"{name} has no georeference. Expected a bounding box in {CRS}. Download the scene again.")
    if scene.rio.crs != CRS:
        raise SpinetError(f"Expected scenes in {CRS}. {name}: {scene.rio.crs}")
    return BoundingBox(*scene.rio.bounds())


def _geotiff(probability: xr.DataArray, threshold: float) -> bytes:
    height, width = probability.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
    place = {"crs": CRS, "transform": probability.rio.transform()}
    with MemoryFile() as file:
        with file.open(**profile, **place, compress="deflate") as image:
            # Nothing exceeds the threshold where it is NaN.
            image.write((probability.to_numpy() > threshold).astype("uint8"), 1)
        return file.read()


def _check_map(image: DatasetReader, name: str, bounds: BoundingBox | None) -> None:
    for what, expected, received in (
        ("format", "GTiff", image.driver),
        ("number of bands", 1, image.count),
        ("size", (SIDE, SIDE), image.shape),
        ("CRS", CRS, image.crs),
        ("nodata value", None, image.nodata),
        ("mask", [MaskFlags.all_valid], image.mask_flag_enums[0]),
    ):
        # A CRS equals its name, whatever it is written as.
        if not received == expected:
            raise SpinetError(f"{name}: expected the {what} {_shown(expected)}. Received: {_shown(received)}")
    if image.transform.is_identity:
        raise SpinetError(f"{name}: expected a georeference. It has none.")
    if bounds is not None and not np.allclose(image.bounds, bounds, rtol=0, atol=_TOLERANCE):
        raise SpinetError(
            f"{name}: expected the bounds of its scene, {_listed(bounds)}. Received: {_listed(image.bounds)}"
        )
    others = np.setdiff1d(image.read(1), (0, 1))
    if others.size:
        raise SpinetError(f"{name}: expected values 0 and 1 only. Received: {_listed(others[:5])}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if isinstance(value, list):
        return ", ".join(flag.name for flag in value)
    return "none" if value is None else str(value)


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:.10g}" for number in numbers)


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.submission",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--model", type=Path, metavar="FILE", help="a .keras file")
    task.add_argument("--check", type=Path, metavar="ZIP", help="write nothing, and check this file")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="the test scenes; with --check, whose bounds the maps must have"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="ZIP", help="the file to write")
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help="probability above which land is called cultivated, such as the one that training.evaluate chose on "
        "validation scenes (default: %(default)s)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the training's YAML file (default: config.yaml beside the model)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    arguments = parser.parse_args(argv)
    if arguments.check:
        check_submission(arguments.check, scene_bounds(arguments.data) if arguments.data else None)
        place = "at the places of their scenes" if arguments.data else "whose places were not compared: pass --data"
        print(f"{arguments.check} is valid: {len(SCENES)} maps, {place}")
        return
    if not (arguments.data and arguments.output):
        parser.error("--model needs --data and --output")
    config = training_config(arguments.config, arguments.model)
    write_submission(
        load_model(arguments.model),
        arguments.data,
        arguments.output,
        arguments.threshold,
        config.max_cloud,
        arguments.overwrite,
    )


if __name__ == "__main__":
    sys.exit(main())
