"""Score a trained model, and NDVI thresholds fitted on the same training scenes, on the scenes held out.

The output folder receives report.html with pictures and curves, scores.md and scores.json.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import keras
from rich.console import Console

from spinet_tf.data.patches import labelled
from spinet_tf.data.scene import find_scenes
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.models.ndvi import NDVIThresholds
from spinet_tf.progress import track
from training.config import Config, load_config
from training.output import prepare_output
from training.pictures import data_uri
from training.report import Panel, write_report
from training.results import Evaluation
from training.scores import THRESHOLD, THRESHOLDS, best_threshold
from training.scoring import Scorer, look, ndvi_inputs
from training.split import Part, split_scenes
from training.tables import markdown, rich_table, score_tables

OUTPUTS = ("report.html", "scores.md", "scores.json")

EPILOG = """examples:
  python -m training.evaluate --model runs/demo/best.keras --data scenes --output runs/demo/evaluation
  python -m training.evaluate --model best.keras --config training/configs/demo.yaml --data scenes --output evaluation

  # on scenes that the model has never seen, with the thresholds that the first run chose
  python -m training.evaluate --model runs/demo/best.keras --data other_scenes --all \\
      --thresholds-from runs/demo/evaluation/scores.json --output runs/demo/test

  # and how far its probabilities can be trusted there
  python -m training.evaluate --model runs/demo/best.keras --data other_scenes --all --uncertainty \\
      --output runs/demo/trust
"""


class Thresholds(NamedTuple):
    """What an earlier evaluation chose.

    Attributes:
        model: the threshold on the model's probability.
        ndvi: the baseline's two, where it had one.
        source: the file that says so.
    """

    model: float
    ndvi: tuple[float, float] | None
    source: Path


def evaluate(
    model: keras.Model,
    config: Config,
    data: Path,
    output: Path,
    model_file: Path = Path("model"),
    everything: bool = False,
    thresholds: Thresholds | None = None,
    curve: bool = True,
    uncertainty: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Score a model and the NDVI baseline on what the split holds out, or on every scene, and write the reports.

    One scene is in memory at a time.

    Args:
        model: a segmentation model such as `SPInet`.
        config: the configuration it was trained with, which decides the split and the frames.
        data: the scenes it was trained with, or others to be split alike.
        output: the folder to write, see the top of this file.
        model_file: where the model was read from, for the reports.
        everything: whether all scenes are scored, for scenes that the model was not trained with.
        thresholds: what an evaluation of other scenes chose; only with `everything`. Otherwise the model's is chosen
            on the scenes held out, and the baseline's are fitted on those that train.
        curve: whether MCC by number of frames is computed too, which takes several times as long.
        uncertainty: whether calibration, and how well the uncertainty tells errors, are reported too.
        overwrite: whether earlier reports there may be replaced.

    Returns:
        What was found.

    Raises:
        SpinetError: if scenes, model or output cannot be used; before anything is predicted.

    Example:
        evaluate(load_model("best.keras"), load_config("config.yaml"), Path("scenes"), Path("evaluation"))
    """
    # One engine for all scenes, so that the network's graph is built once.
    engine = KerasEngine(model)
    paths = find_scenes(data)
    training: list[Part] = []
    if everything:
        parts = [Part(path) for path in paths]
        described = "none, every scene is scored; the model must not have been trained on them"
    else:
        split = split_scenes(paths, config.split, config.validation_scenes)
        (training, parts), described = split, str(split)
    # Earlier reports stay until new ones replace them.
    prepare_output(output, () if overwrite else OUTPUTS, overwrite)
    print(f"Split: {described}")
    missing = ""
    for part in track(parts, "Looking at the scenes", len(parts)):
        missing = look(part, engine) or missing
    baseline, origin = _baseline(missing, training, thresholds, engine.scale)

    # Maps are drawn at the threshold that nothing here chose.
    shown_at = thresholds.model if thresholds else THRESHOLD
    scorer = Scorer(engine, baseline, config.max_cloud, curve, type(model).__name__, shown_at, uncertainty)
    scenes, panels = [], []
    for part in track(parts, "Scoring", len(parts)):
        result, pictures = scorer.score(part)
        scenes.append(result)
        panels.append([Panel(picture.title, data_uri(picture.image)) for picture in pictures])

    chosen, chosen_on = None, ""
    if thresholds:
        chosen, chosen_on = thresholds.model, f"chosen on other scenes, by {thresholds.source}."
    elif not everything:
        chosen = best_threshold(scene.tallies["model"] for scene in scenes)
        chosen_on = "chosen on these very scenes, so that it flatters the model on them. It is meant for other scenes."
    found = Evaluation(
        model=type(model).__name__,
        model_file=str(model_file),
        data=str(data),
        split=described,
        max_cloud=config.max_cloud,
        chosen=chosen,
        chosen_on=chosen_on,
        ndvi=(baseline.low, baseline.high) if baseline else None,
        ndvi_origin=origin,
        scenes=scenes,
    )
    _write(output, found, panels)
    return found


def training_config(path: Path | None, model_file: Path) -> Config:
    """The configuration at `path`; without one, that which training.train wrote beside the model."""
    beside = model_file.parent / "config.yaml"
    if path is None and not beside.is_file():
        raise SpinetError(f"Expected {beside}, which training.train writes. Pass --config.")
    return load_config(path or beside)


def load_thresholds(path: Path) -> Thresholds:
    """Read what an evaluation chose.

    Args:
        path: its scores.json.

    Returns:
        The thresholds.

    Raises:
        SpinetError: if the file cannot be read, or states no threshold chosen on validation scenes.

    Example:
        load_thresholds(Path("runs/demo/evaluation/scores.json")).model
    """
    expected = "Expected scores.json of an evaluation of validation scenes, with the thresholds that it chose"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["thresholds"]
        model, ndvi = found["model_at_chosen"], found.get("ndvi")
        usable = model in THRESHOLDS and (ndvi is None or -1 <= float(ndvi[0]) < float(ndvi[1]) <= 1)
        values = Thresholds(float(model), ndvi and (float(ndvi[0]), float(ndvi[1])), path)
    except OSError as error:
        raise SpinetError(f"{expected}. Cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise SpinetError(f"{expected}. {path} states none.") from error
    if not usable:
        raise SpinetError(f"{expected}, in steps of 0.001. {path}: {model} for the model, {ndvi} for NDVI.")
    return values


def _baseline(
    missing: str, training: list[Part], thresholds: Thresholds | None, scale: int
) -> tuple[NDVIThresholds | None, str]:
    """The NDVI baseline, and where its thresholds come from."""
    if missing:
        return None, f"none, because {missing}."
    if training:
        parts = track(training, "Fitting NDVI thresholds", len(training))
        scenes = (ndvi_inputs(labelled(part())) for part in parts)
        return NDVIThresholds(scale=scale).fit(scenes), "fitted on what trains."
    if thresholds and thresholds.ndvi:
        return NDVIThresholds(*thresholds.ndvi, scale=scale), f"fitted on what trained, by {thresholds.source}."
    return NDVIThresholds(scale=scale), "the challenge's own thresholds, fitted on none of these scenes."


def _write(output: Path, found: Evaluation, panels: list[list[Panel]]) -> None:
    tables, notes = score_tables(found), found.notes()
    with replacing(output / "scores.json") as temporary:
        temporary.write_text(json.dumps(found.summary(), indent=2) + "\n", encoding="utf-8")
    with replacing(output / "scores.md") as temporary:
        temporary.write_text(markdown(tables, [f"Split: {found.split}.", *notes]), encoding="utf-8")
    write_report(output / "report.html", found, panels)
    console = Console()
    # A file has no edge, and a narrow terminal may break lines but must not lose columns.
    console.width = max(console.width, 110) if console.is_terminal else 160
    for table in tables:
        console.print(rich_table(table), "")
    for note in notes:
        print(note)
    for name in OUTPUTS:
        print(f"Wrote {output / name}")


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
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where to write the reports")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the training's YAML file (default: config.yaml beside the model)"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="score every scene of a folder that the model was not trained on, instead of what the split holds out",
    )
    parser.add_argument(
        "--thresholds-from",
        type=Path,
        metavar="FILE",
        help="with --all: scores.json of the evaluation of the validation scenes, whose thresholds are used; without "
        "it the model's is 0.5 and the NDVI baseline has the challenge's",
    )
    parser.add_argument(
        "--no-curve",
        action="store_true",
        help="leave out MCC by number of frames, for which each scene is mapped again with its 1, 2, 3, 5, 8, 12, 20, "
        "30, ... clearest frames: all in all two to four times the time",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="add how far probabilities can be trusted: calibration, risk against coverage, and how well errors are "
        "found by the entropy of the probability and by the model's own uncertainty, if it gives one",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier reports in the output folder")
    arguments = parser.parse_args(argv)
    if arguments.thresholds_from and not arguments.all:
        raise SpinetError(
            "--thresholds-from goes with --all: on the scenes held out the thresholds are chosen and fitted. Add --all "
            "if the model was trained on none of these scenes."
        )
    thresholds = load_thresholds(arguments.thresholds_from) if arguments.thresholds_from else None
    evaluate(
        load_model(arguments.model),
        training_config(arguments.config, arguments.model),
        arguments.data,
        arguments.output,
        model_file=arguments.model,
        everything=arguments.all,
        thresholds=thresholds,
        curve=not arguments.no_curve,
        uncertainty=arguments.uncertainty,
        overwrite=arguments.overwrite,
    )


if __name__ == "__main__":
    sys.exit(main())
