"""Score a trained model, and NDVI thresholds fitted on the same training scenes, on the scenes held out.

The output folder receives scores.md, scores.json and one picture for each scene.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import keras
import numpy as np
import xarray as xr
from rich.console import Console

from spinet_tf.data.patches import labelled
from spinet_tf.data.scene import find_scenes, select_bands
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.inference.scene import predict_scene
from spinet_tf.models.ndvi import NDVIThresholds, mean_ndvi
from spinet_tf.progress import track
from training.config import Config, load_config
from training.output import prepare_output
from training.pictures import write_picture
from training.scores import SceneScores, markdown_table, mean_scores, rich_table, score_map, table_rows
from training.split import Part, Split, split_scenes

# Probability above which land is called cultivated. Not fitted: binary cross-entropy already calibrates for it.
THRESHOLD = 0.5

# The challenge's season, March to August, to which the NDVI baseline belongs.
SEASON = range(3, 9)

NOTE = (
    "MCC: Matthews' correlation with every known pixel counting once, as in the paper. Weighted MCC: the same with the "
    "weights of the AI4EO challenge's score. Mean: over scenes."
)

EPILOG = """examples:
  python -m training.evaluate --model runs/demo/best.keras --data scenes --output runs/demo/evaluation
  python -m training.evaluate --model best.keras --config training/configs/demo.yaml --data scenes --output evaluation
"""


def evaluate(
    model: keras.Model, config: Config, data: Path, output: Path, overwrite: bool = False
) -> list[SceneScores]:
    """Score a model and the NDVI baseline on what the split holds out, and write scores and pictures.

    Args:
        model: a segmentation model such as `SPInet`.
        config: the configuration it was trained with, which decides the split.
        data: the scenes it was trained with, or others to be split alike.
        output: the folder to write, see the top of this file.
        overwrite: whether earlier scores there may be replaced.

    Returns:
        The scores of each scene held out.

    Raises:
        SpinetError: if scenes or output cannot be used.

    Example:
        evaluate(load_model("best.keras"), load_config("config.yaml"), Path("scenes"), Path("evaluation"))
    """
    # One engine for all scenes, so that the network's graph is built once.
    engine = KerasEngine(model)
    split = split_scenes(find_scenes(data), config.split, config.validation_scenes)
    pictures = [f"{part.path.stem}{f'-{part.half}' if part.half else ''}.png" for part in split.validation]
    prepare_output(output, ["scores.md", "scores.json", *pictures], overwrite)
    print(f"Split: {split}")
    baseline = NDVIThresholds(scale=engine.scale).fit(
        ndvi_inputs(scene) for scene in _opened(split.training, "Fitting NDVI thresholds")
    )
    scores = []
    for scene, picture in zip(_opened(split.validation, "Scoring"), pictures, strict=True):
        red, nir, valid, label = ndvi_inputs(scene)
        ndvi_map = baseline.predict(red, nir, valid)
        probability = predict_scene(engine, scene, max_cloud=config.max_cloud)["probability"].to_numpy()
        model_map = probability > THRESHOLD
        score = SceneScores(scene.attrs["name"], score_map(label, model_map), score_map(label, ndvi_map))
        scores.append(score)
        ndvi = mean_ndvi(red, nir, valid, engine.scale)
        write_picture(output / picture, scene, score, ndvi, ndvi_map, probability, model_map)
    _write_scores(output, data, split, baseline, scores)
    Console().print(rich_table(table_rows(scores)))
    print(NOTE)
    print(f"NDVI thresholds, fitted on what trains: {baseline.low:.3f} to {baseline.high:.3f}")
    print(f"Wrote {output / 'scores.md'}, {output / 'scores.json'}")
    for picture in pictures:
        print(f"Wrote {output / picture}")
    return scores


def ndvi_inputs(scene: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Red, near infrared, valid and label of a scene, of its frames from March to August where it has dates then."""
    if "time" in scene.coords:
        season = scene.isel(time=np.flatnonzero(scene["time"].dt.month.isin(SEASON)))
        if season["valid"].any():
            scene = season
    red, nir = select_bands(scene, ["B04", "B08"])["bands"].transpose("band", ...).to_numpy()
    return red, nir, scene["valid"].to_numpy(), scene["label"].to_numpy()


def _opened(parts: list[Part], description: str):
    for part in track(parts, description, len(parts)):
        yield labelled(part())


def _write_scores(output: Path, data: Path, split: Split, baseline: NDVIThresholds, scores: list[SceneScores]) -> None:
    thresholds = {"spinet": THRESHOLD, "ndvi": [baseline.low, baseline.high]}
    summary = {
        "data": str(data),
        "split": str(split),
        "thresholds": thresholds,
        "scenes": [dataclasses.asdict(score) for score in scores],
        "mean": dataclasses.asdict(mean_scores(scores)),
        "note": NOTE,
    }
    text = f"{markdown_table(table_rows(scores))}\n\n{NOTE}\n\nSplit: {split}. NDVI thresholds fitted on what trains: "
    with replacing(output / "scores.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    with replacing(output / "scores.md") as temporary:
        temporary.write_text(f"{text}{baseline.low:.3f} to {baseline.high:.3f}. SPInet's threshold: {THRESHOLD}.\n")


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, type=Path, metavar="FILE", help="a .keras file")
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="labelled scenes, or one")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="where to write scores and pictures"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the training's YAML file (default: config.yaml beside the model)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier scores in the output folder")
    arguments = parser.parse_args(argv)
    model = load_model(arguments.model)
    config = arguments.config or arguments.model.parent / "config.yaml"
    if arguments.config is None and not config.is_file():
        raise SpinetError(f"Expected {config}, which training.train writes. Pass --config.")
    evaluate(model, load_config(config), arguments.data, arguments.output, arguments.overwrite)


if __name__ == "__main__":
    sys.exit(main())
