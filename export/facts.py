"""What a model card and a STAC item say of a model, gathered from it and from the files that training leaves."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.graph import Exportable
from spinet_tf._version import __version__
from spinet_tf.errors import SpinetError

# Where training.train and training.evaluate leave them, beside the .keras file.
CONFIG = "config.yaml"
SCORES = ("evaluation/scores.md", "scores.md")

# The papers that the networks come from.
DOIS = {
    "SPInet": "10.1109/IGARSS46834.2022.9884811",
    "HighResNet": "10.48550/arXiv.2002.06460",
    "RAMS": "10.3390/rs12142207",
    "DeepSUM": "10.48550/arXiv.1907.06490",
}


@dataclass(frozen=True)
class Facts:
    """Of one exported version.

    Attributes:
        name: the servable's, the name of its folder.
        version: its number.
        architecture: the model's class.
        band_names: the bands in order; None where the model has no names for them.
        bands: how many there are.
        scale: how many times finer the answer is.
        frames: how many frames the model takes; None for any number.
        takes_means: whether tiles can be answered with the means of their scene.
        gives_uncertainty: whether it says how uncertain its probabilities are.
        parameters: numbers of trainable and of all weights.
        settings: the arguments the model was made with.
        training: text of the training's configuration, or None.
        scores: the evaluation's table as Markdown, or None.
        software: versions of the packages that the export was made with.
    """

    name: str
    version: int
    architecture: str
    band_names: tuple[str, ...] | None
    bands: int
    scale: int
    frames: int | None
    takes_means: bool
    gives_uncertainty: bool
    parameters: tuple[int, int]
    settings: dict[str, Any]
    training: str | None
    scores: str | None
    software: dict[str, str]

    @property
    def paper(self) -> str | None:
        """Address of the paper that the network comes from."""
        doi = DOIS.get(self.architecture)
        return None if doi is None else f"https://doi.org/{doi}"


def gather_facts(
    exportable: Exportable,
    name: str,
    version: int,
    source: str | os.PathLike | None = None,
    scores: str | os.PathLike | None = None,
) -> Facts:
    """Gather what is known of a model.

    Args:
        exportable: the model.
        name: of the servable.
        version: of the servable.
        source: the .keras file, beside which configuration and scores are looked for; None for neither.
        scores: the evaluation's scores.md, where it lies elsewhere.

    Returns:
        The facts.

    Raises:
        SpinetError: if `scores` cannot be read.

    Example:
        gather_facts(Exportable(model), "spinet", 1, source="runs/demo/best.keras").training
    """
    model = exportable.model
    return Facts(
        name=name,
        version=version,
        architecture=type(model).__name__,
        band_names=exportable.band_names,
        bands=exportable.bands,
        scale=exportable.scale,
        frames=exportable.frames,
        takes_means=exportable.takes_means,
        gives_uncertainty=exportable.gives_uncertainty,
        parameters=(sum(int(np.prod(weight.shape)) for weight in model.trainable_weights), model.count_params()),
        settings={key: value for key, value in model.get_config().items() if key not in ("name", "dtype")},
        training=_beside(source, [CONFIG]),
        scores=_beside(source, SCORES) if scores is None else _text(Path(scores)),
        software={"spinet_tf": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    )


def _beside(source, names):
    files = [] if source is None else [Path(source).parent / name for name in names]
    return next((_text(file) for file in files if file.is_file()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpinetError(f"Cannot read {file}: {error}. Expected a text file that training leaves.") from error
