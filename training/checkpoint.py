"""All that a training run needs to go on, in one file that is either whole or not there."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing

FILE = "checkpoint.npz"
_PROGRESS = "progress"


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs finished, their validation and saving included.
        step: steps trained in the epoch after them.
        logs: what the training of that epoch gave, where it waits to be validated.
        history: the logs of each epoch finished.
        best: the highest validation score so far.
        best_epoch: the epoch that gave it, from 1; 0 for none.
        identity: what configuration and data the run has, as text.
    """

    epoch: int = 0
    step: int = 0
    logs: dict[str, float] | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: float = -2.0
    best_epoch: int = 0
    identity: str = ""


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Copies of all that training changes: weights, batch statistics and what the optimizer keeps."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in _variables(model)]


def set_weights_of(model: keras.Model, values: list[np.ndarray]) -> None:
    """Give a model back what `weights_of` copied."""
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def metric_variables(model: keras.Model, score: keras.metrics.Metric) -> list[Any]:
    """What the mean loss and the score sum over an epoch; Keras lists the score's only after the first step."""
    own = {id(variable) for variable in score.variables}
    return [variable for variable in model.metrics_variables if id(variable) not in own] + list(score.variables)


def save_checkpoint(folder: Path, progress: Progress, weights: list[np.ndarray], metrics: list[np.ndarray]) -> None:
    """Write a checkpoint in place of the last one, which stays until the new one is whole.

    Raises:
        SpinetError: if a weight is not finite, or the disk does not take the file; the last checkpoint is still there.
    """
    path = folder / FILE
    if not all(np.isfinite(value).all() for value in weights):
        raise SpinetError(f"Training diverged: some weights are not finite. {advice(folder)}")
    arrays: dict[str, Any] = {_PROGRESS: np.array(json.dumps(dataclasses.asdict(progress)))}
    arrays |= {f"weight_{number:05d}": value for number, value in enumerate(weights)}
    arrays |= {f"metric_{number:05d}": value for number, value in enumerate(metrics)}
    try:
        with replacing(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
    except OSError as error:
        raise SpinetError(
            f"Cannot write {path}: {error.strerror or error}. The checkpoint before it is unharmed: make room and run "
            "the same command again."
        ) from error


def load_checkpoint(folder: Path, model: keras.Model) -> tuple[Progress, list[np.ndarray]]:
    """Read a checkpoint and set the weights of a model to it.

    Args:
        folder: of the run.
        model: built and compiled as when the checkpoint was written, its optimizer built too.

    Returns:
        The progress, and what the metrics held.

    Raises:
        SpinetError: if the file cannot be read or belongs to another model.
    """
    path = folder / FILE
    progress, arrays = _read(path)
    weights = [arrays[name] for name in sorted(arrays) if name.startswith("weight_")]
    expected = [tuple(variable.shape) for variable in _variables(model)]
    if [value.shape for value in weights] != expected:
        raise SpinetError(f"{path} belongs to another network. Choose another output or pass --overwrite.")
    set_weights_of(model, weights)
    return progress, [arrays[name] for name in sorted(arrays) if name.startswith("metric_")]


def read_identity(folder: Path) -> str | None:
    """What run a folder's checkpoint belongs to; None where there is no checkpoint."""
    path = folder / FILE
    if not path.exists():
        return None
    return _read(path)[0].identity


def _read(path: Path) -> tuple[Progress, dict[str, np.ndarray]]:
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
        return Progress(**json.loads(str(arrays.pop(_PROGRESS)))), arrays
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise SpinetError(f"{path} is damaged ({error}). Start again with --overwrite.") from error


def advice(folder: Path) -> str:
    """What to do after a divergence."""
    path = folder / FILE
    kept = f"The last good checkpoint is {path}. " if path.exists() else "There is no checkpoint yet. "
    return kept + "Lower learning_rate or set clip_norm in the configuration, and train into another output."


def room_for(model: keras.Model) -> int:
    """Bytes that a run's checkpoint, its two models and their temporary copies take at most."""
    return 4 * sum(int(np.prod(variable.shape)) * 4 for variable in _variables(model)) + (16 << 20)


def require_room(folder: Path, needed: int) -> None:
    """Raise a SpinetError if the disk of a folder has fewer bytes left than needed."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise SpinetError(
            f"Expected {needed >> 20} MB free for checkpoints and models in {folder}. There are {free >> 20} MB. "
            "Make room or choose another output."
        )


def _variables(model: keras.Model) -> list[Any]:
    return [*model.weights, *model.optimizer.variables]
