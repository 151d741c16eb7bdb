"""Fit a model's temperature on validation scenes, so that its probabilities are shares of cultivated land.

One number divides all logits of a trained SPInet: the one that makes the known pixels of the validation scenes most
likely. Maps at the threshold 0.5 stay as they are. The number becomes part of the network's last projection, so the new
model is used as the old one everywhere. Write it beside the old one, where the training's config.yaml lies.

Reference: Guo et al., "On calibration of modern neural networks", https://arxiv.org/abs/1706.04599.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from spinet_tf import SPInet
from spinet_tf.data.patches import labelled
from spinet_tf.data.scene import find_scenes
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.files import replacing
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.inference.model import load_model
from spinet_tf.inference.scene import predict_scene
from spinet_tf.progress import track
from training.evaluate import training_config
from training.scoring import look
from training.split import Part, split_scenes
from training.uncertainty_scores import BINS

# Temperatures that are looked for; a fit that ends there found none.
LOWEST, HIGHEST = 0.05, 20.0

# Intervals of the logit. Beyond 16 float32 probabilities do not differ.
_EDGES = np.linspace(-16, 16, 6401)

EPILOG = """examples:
  python -m training.calibrate runs/demo/best.keras scenes --output runs/demo/calibrated.keras
  python -m training.evaluate --model runs/demo/calibrated.keras --data other_scenes --all --uncertainty --output scores
"""


class Logits(NamedTuple):
    """Logits of known pixels, in narrow intervals.

    Attributes:
        values: float64 (n,), the mean logit of each interval.
        counts: float64 (n, 2), its pixels that are not cultivated, and those that are.
    """

    values: np.ndarray
    counts: np.ndarray

    def nll(self, temperature: float) -> float:
        """The mean negative log-likelihood of the labels if logits are divided by so much, in nats."""
        z = self.values / temperature
        losses = np.stack([np.logaddexp(0, z), np.logaddexp(0, -z)], axis=-1)
        return float((self.counts * losses).sum() / self.counts.sum())

    def brier(self, temperature: float) -> float:
        """The mean squared difference of probability and truth."""
        p = expit(self.values / temperature)
        return float((self.counts * np.stack([p**2, (1 - p) ** 2], axis=-1)).sum() / self.counts.sum())

    def ece(self, temperature: float) -> float:
        """The expected calibration error, see `training.uncertainty_scores.Trust`."""
        p = expit(self.values / temperature)
        interval = np.minimum((p * BINS).astype(int), BINS - 1)
        pixels = self.counts.sum(axis=1)
        gaps = np.bincount(interval, self.counts[:, 1] - p * pixels, BINS)
        return float(np.abs(gaps).sum() / pixels.sum())


def gather_logits(maps: Iterable[tuple[np.ndarray, np.ndarray]]) -> Logits:
    """Count the logits of maps.

    Args:
        maps: of each scene the label, uint8 with 255 where it is unknown, and the probability, NaN where not seen.

    Raises:
        SpinetError: if the labels have one class only.

    Example:
        gather_logits([(label, probability)]).nll(temperature=1.0)
    """
    intervals = len(_EDGES) + 1
    counts, sums = np.zeros((intervals, 2)), np.zeros(intervals)
    for label, probability in maps:
        known = (label != 255) & np.isfinite(probability)
        z = logit(probability[known].astype("float64")).clip(_EDGES[0], _EDGES[-1])
        interval = np.searchsorted(_EDGES, z)
        counts += np.bincount(2 * interval + (label[known] == 1), minlength=2 * intervals).reshape(intervals, 2)
        sums += np.bincount(interval, z, intervals)
    there = counts.any(axis=1)
    if not counts.any(axis=0).all():
        raise SpinetError(
            "Expected labels of both classes to fit a temperature on. Received: "
            f"{counts[:, 1].sum():.0f} cultivated pixels and {counts[:, 0].sum():.0f} others. Give more scenes."
        )
    return Logits(sums[there] / counts[there].sum(axis=1), counts[there])


def fit_temperature(logits: Logits) -> float:
    """Find the temperature that makes the labels most likely.

    Raises:
        SpinetError: if there is none: where no pixel is wrong, or most are, probabilities could be ever more certain,
            or ever less.

    Example:
        fit_temperature(gather_logits([(label, probability)]))
    """
    # As a function of the inverse temperature the loss is convex: one minimum, here on a scale of equal ratios.
    found = minimize_scalar(
        lambda log: logits.nll(float(np.exp(log))), bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded"
    )
    temperature = float(np.exp(found.x))
    if not 1.01 * LOWEST < temperature < HIGHEST / 1.01:
        raise SpinetError(
            f"Expected a temperature from {LOWEST} to {HIGHEST}. The labels are most likely beyond {temperature:.2g}: "
            "the model is never wrong on these scenes, or right by chance only. Give other scenes, which it was not "
            "trained on, or another model."
        )
    return temperature


def divide_logits(model: SPInet, temperature: float) -> None:
    """Divide a model's logits by a temperature, by its last projection; deviations stay as they are."""
    projection = model.get_layer("fusion").projection
    for weight in (projection.kernel, projection.bias):
        values = weight.numpy() if hasattr(weight, "numpy") else np.array(weight)
        # The first output is the logit's mean, to which the marginal logit is proportional.
        values[..., 0] /= temperature
        weight.assign(values)


def calibrate(model_file: Path, data: Path, output: Path, config_file: Path | None, everything: bool) -> float:
    """Fit the temperature of a model on scenes, and write the model with it.

    Args:
        model_file: the `.keras` file of a SPInet.
        data: labelled scenes: those it was trained and validated with, or with `everything` others.
        output: the `.keras` file to write.
        config_file: the training's configuration; None for that beside the model.
        everything: whether all scenes are used, not only those that the split holds out.

    Returns:
        The temperature: above 1 where the model was too sure.

    Raises:
        SpinetError: if model, scenes or output cannot be used, or there is no such temperature.

    Example:
        calibrate(Path("best.keras"), Path("scenes"), Path("calibrated.keras"), None, False)
    """
    model = load_model(model_file)
    if not isinstance(model, SPInet):
        raise SpinetError(f"Expected a SPInet to calibrate. {model_file} is a {type(model).__name__}.")
    if output.suffix != ".keras" or output.exists():
        raise SpinetError(f"Expected a new .keras file to write. Received: {output}. Choose another output.")
    config = training_config(config_file, model_file)
    paths = find_scenes(data)
    parts = [Part(path) for path in paths]
    if not everything:
        split = split_scenes(paths, config.split, config.validation_scenes)
        print(f"Split: {split}")
        parts = split.validation
    engine = KerasEngine(model)
    for part in parts:
        look(part, engine)

    def maps():
        for part in track(parts, "Mapping", len(parts)):
            scene = labelled(part())
            mapped = predict_scene(engine, scene, frames="all", max_cloud=config.max_cloud)
            yield scene["label"].to_numpy(), mapped["probability"].to_numpy()

    logits = gather_logits(maps())
    temperature = fit_temperature(logits)
    divide_logits(model, temperature)
    with replacing(output) as temporary:
        model.save(temporary)
    table = Table("temperature", "ECE", "Brier", "NLL", box=box.SIMPLE_HEAD, title_justify="left")
    for value in (1.0, temperature):
        table.add_row(
            *(f"{figure:.4f}" for figure in (value, logits.ece(value), logits.brier(value), logits.nll(value)))
        )
    Console().print(table)
    print(f"{logits.counts.sum():,.0f} pixels of {len(parts)} scenes, on which the temperature was chosen")
    print(f"Wrote {output}")
    return temperature


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.calibrate",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, help="a .keras file with a SPInet")
    add("data", type=Path, help="labelled scenes, or one: those of the training, of which the held-out ones are used")
    add("--output", required=True, type=Path, metavar="FILE", help="the .keras file to write")
    add("--config", type=Path, metavar="FILE", help="the training's YAML file (default: config.yaml beside the model)")
    add("--all", action="store_true", help="use every scene, of a folder that the model was not trained on")
    arguments = parser.parse_args(argv)
    calibrate(arguments.model, arguments.data, arguments.output, arguments.config, arguments.all)


if __name__ == "__main__":
    sys.exit(main())
