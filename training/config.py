"""What a training run is made of: a YAML file, checked before anything is computed."""

import contextlib
import dataclasses
import difflib
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import yaml

from spinet_tf.bands import BANDS
from spinet_tf.data.patches import Weights
from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from spinet_tf.models.spinet import CONFIGURATIONS, FUSIONS
from spinet_tf.tiling.frames import Method
from training.systems import SYSTEMS, fixed_frames


class _UnfitError(Exception):
    """A value that a setting does not take; the message says what it takes."""


Reader = Callable[[Any], Any]


def whole(low: int) -> Reader:
    """Reads a whole number of at least `low`."""

    def read(value):
        if type(value) is not int or value < low:
            raise _UnfitError(f"a whole number of {low} or more")
        return value

    return read


def number(low: float, high: float = float("inf"), low_included: bool = True) -> Reader:
    """Reads a number from `low` to `high`."""

    def read(value):
        if isinstance(value, str):
            # YAML takes 1e-4, without a point, for text.
            with contextlib.suppress(ValueError):
                value = float(value)
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not fits or (value == low and not low_included):
            above = f"from {low}" if low_included else f"above {low}"
            raise _UnfitError(f"a number {above}" + (f" to {high}" if high < float("inf") else ""))
        return float(value)

    return read


def one_of(*choices: str) -> Reader:
    """Reads one of several words."""

    def read(value):
        if value not in choices:
            nearest = difflib.get_close_matches(str(value), choices, n=1)
            raise _UnfitError(f"one of {', '.join(choices)}" + (f" (did you mean {nearest[0]!r}?)" if nearest else ""))
        return value

    return read


def _yes_or_no(value):
    if not isinstance(value, bool):
        raise _UnfitError("true or false")
    return value


def _band_names(value):
    names = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
    if not names or len(set(value)) < len(value):
        raise _UnfitError(f"a list of different band names such as [{', '.join(BANDS[1:4])}]")
    return tuple(value)


def _model_name(value):
    if not isinstance(value, str) or not value:
        raise _UnfitError("the name of a preset such as tiny-simulated, or a .keras file")
    return value


def _count_or_names(value):
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    if type(value) is not int or value < 1:
        raise _UnfitError("a whole number of 1 or more, or a list of names of scenes")
    return value


def _count_or_range(value):
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(type(count) is int for count in value)
    if pair and 1 <= value[0] <= value[1]:
        return tuple(value)
    if type(value) is not int or value < 1:
        raise _UnfitError("a whole number of 1 or more, or two in a list, the lower first")
    return value


def _number_or_range(low: float, high: float) -> Reader:
    single = number(low, high)

    def read(value):
        if not isinstance(value, list | tuple):
            return single(value)
        pair = tuple(map(single, value))
        if len(pair) != 2 or pair[0] > pair[1]:
            raise _UnfitError(f"a number from {low} to {high}, or two in a list, the lower first")
        return pair

    return read


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network, and its sizes: a named configuration of `SPInet` and what differs from it, or another system.

    Attributes:
        configuration: of "spinet".
        system: one of `training.systems.SYSTEMS`. The settings after it are arguments of its class; None for its own
            default.
    """

    configuration: Annotated[str, one_of(*CONFIGURATIONS)] = "small"
    system: Annotated[str, one_of(*SYSTEMS)] = "spinet"
    filters: Annotated[int | None, whole(1)] = None
    tefa_blocks: Annotated[int | None, whole(0)] = None
    bottleneck: Annotated[int | None, whole(1)] = None
    heads: Annotated[int | None, whole(1)] = None
    fusion: Annotated[str | None, one_of(*FUSIONS)] = None
    uncertainty: Annotated[bool | None, _yes_or_no] = None
    blocks: Annotated[int | None, whole(0)] = None
    squeeze: Annotated[int | None, whole(1)] = None
    layers: Annotated[int | None, whole(1)] = None
    depth: Annotated[int | None, whole(1)] = None
    frames: Annotated[int | None, whole(3)] = None

    def overrides(self) -> dict[str, Any]:
        """The arguments of the system's class, or of `SPInet.named` besides the name, that this configuration gives."""
        given = dataclasses.asdict(self)
        del given["system"], given["configuration"]
        return {name: value for name, value in given.items() if value is not None}

    @property
    def series(self) -> int | None:
        """How many frames the network takes, no more and no fewer; None where it takes any number."""
        return self.frames or fixed_frames(self.system)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides what a training run gives, but for the data.

    Attributes:
        model: sizes of the network.
        start: a trained model to go on from, with its network, weights, bands and normalisation: the name of a preset
            or a `.keras` file. `model` is then left out. None for random weights.
        bands: names of the bands that the network sees; None for those of `start`, or all bands of the first scene.
        patch: height and width of a patch in pixels of the images; less where the scenes are smaller.
        batch: patches that each update of the weights sees.
        accumulate: parts that a batch is computed in, one after the other, which saves memory. Batch normalisation then
            sees the parts.
        steps: updates in an epoch; None for as many as see every patch once.
        epochs: after each, the model is scored on the validation scenes and saved.
        loss: "cross_entropy", "soft_mcc" (1 - a differentiable Matthews correlation), or "both", their sum. A model
            with uncertainty has its own cross-entropy, `spinet_tf.losses.LogitNormalCrossEntropy`.
        weights: what label pixels weigh in the loss, see `spinet_tf.data.patches.labelled`.
        optimizer: "adam", or "adamw" with `weight_decay`.
        weight_decay: AdamW's.
        learning_rate: at its highest.
        warmup: updates over which the learning rate rises from 0.
        schedule: "constant", or "cosine" for a learning rate that then falls to 0 over the run.
        clip_norm: the largest norm of the gradient of all weights together; None for no limit.
        average: momentum of a moving average of the weights, such as 0.999, which is then what is validated and saved;
            None for the weights themselves.
        patience: training stops after so many epochs without a better validation score; None for never.
        frames: which frames of a training patch are taken, see `spinet_tf.data.choose_frames`. To validate, all with at
            most `max_cloud` are, or the clearest where the network takes a fixed number.
        frame_count: how many frames "clearest" and "random" take; of a pair, a number between is drawn for each batch.
        max_cloud: the cloudy fraction of a frame allowed.
        augment: whether patches are flipped and rotated.
        jitter: strength of random changes of brightness, see `spinet_tf.data.batches.Sampling`.
        frame_dropout: the probability with which a chosen frame is left out; of a pair, one between is drawn for each
            patch, so that a batch holds series of all lengths.
        balance: whether cultivated and other pixels come up equally often.
        split: "scenes" trains on some scenes and validates on others; "rows" trains on the upper half of every scene
            and validates on the lower; "auto" is "scenes" where there are two or more.
        validation_scenes: how many scenes, the last ones by name, or which, validate with the split by scenes.
        precision: "float32", or "mixed_bfloat16", faster on recent processors.
        remat: whether activations are computed again for the gradient instead of kept, which saves memory.
        deterministic: whether every operation gives the same bits each time, which can be slower.
        checkpoint_minutes: how often all that is needed to go on is saved, besides after every epoch.
        seed: seed of everything random.
    """

    model: ModelConfig = ModelConfig()
    start: Annotated[str | None, _model_name] = None
    bands: Annotated[tuple[str, ...] | None, _band_names] = None
    patch: Annotated[int, whole(2)] = 32
    batch: Annotated[int, whole(1)] = 8
    accumulate: Annotated[int, whole(1)] = 1
    steps: Annotated[int | None, whole(1)] = None
    epochs: Annotated[int, whole(1)] = 60
    loss: Annotated[str, one_of("cross_entropy", "soft_mcc", "both")] = "cross_entropy"
    weights: Annotated[Weights, one_of(*get_args(Weights))] = "uniform"
    optimizer: Annotated[str, one_of("adam", "adamw")] = "adam"
    weight_decay: Annotated[float, number(0)] = 0.004
    learning_rate: Annotated[float, number(0, low_included=False)] = 1e-4
    warmup: Annotated[int, whole(0)] = 0
    schedule: Annotated[str, one_of("constant", "cosine")] = "constant"
    clip_norm: Annotated[float | None, number(0, low_included=False)] = None
    average: Annotated[float | None, number(0, 0.99999, low_included=False)] = None
    patience: Annotated[int | None, whole(1)] = None
    frames: Annotated[Method, one_of(*get_args(Method))] = "random"
    frame_count: Annotated[int | tuple[int, int], _count_or_range] = 20
    max_cloud: Annotated[float, number(0, 1)] = 0.25
    augment: Annotated[bool, _yes_or_no] = True
    jitter: Annotated[float, number(0, 1)] = 0.0
    frame_dropout: Annotated[float | tuple[float, float], _number_or_range(0, 0.95)] = 0.0
    balance: Annotated[bool, _yes_or_no] = False
    split: Annotated[str, one_of("auto", "scenes", "rows")] = "auto"
    validation_scenes: Annotated[int | tuple[str, ...], _count_or_names] = 1
    precision: Annotated[str, one_of("float32", "mixed_bfloat16")] = "float32"
    remat: Annotated[bool, _yes_or_no] = False
    deterministic: Annotated[bool, _yes_or_no] = False
    checkpoint_minutes: Annotated[float, number(0)] = 10.0
    seed: Annotated[int, whole(0)] = 0

    def __post_init__(self) -> None:
        if self.start is not None and self.model != ModelConfig():
            raise SpinetError(
                f"Expected no sizes of a network beside start: {self.start}, which has its own. Leave `model` out, or "
                "`start`."
            )
        series = self.model.series
        most = self.frame_count if isinstance(self.frame_count, int) else self.frame_count[1]
        if series and (self.frames == "all" or most > series):
            raise SpinetError(
                f"Expected frame_count of at most {series}, which {self.model.system} takes, and frames not to be all. "
                f"Received: {most}, {self.frames}. Set frames: clearest and frame_count: {series}."
            )
        if self.batch % self.accumulate:
            raise SpinetError(
                f"Expected accumulate to divide the batch of {self.batch}. Received: {self.accumulate}. Choose one of "
                f"{', '.join(str(n) for n in range(1, self.batch + 1) if self.batch % n == 0)}."
            )


def load_config(path: str | os.PathLike) -> Config:
    """Read and check a YAML configuration.

    Args:
        path: the file. Settings that it leaves out have the defaults of `Config`.

    Returns:
        The configuration.

    Raises:
        SpinetError: if the file cannot be read, or a key is unknown, or a value has the wrong type or range. The
            message names the key and, for an unknown one, the nearest that exists.

    Example:
        config = load_config("training/configs/demo.yaml")
    """
    content = read_yaml(Path(path))
    return read_settings(Config, {} if content is None else content, str(path))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; a SpinetError if it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpinetError(f"Cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise SpinetError(f"{path} is not YAML: {error}") from error


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Write a configuration with all its settings, so that `load_config` gives it again."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False), encoding="utf-8")


def read_settings(cls: type, content: Any, where: str) -> Any:
    """Make an object of a dataclass, whose fields are dataclasses or annotated with a reader, of keys and values.

    Args:
        cls: such as `Config`.
        content: what YAML gave.
        where: the place of the content, for messages.

    Raises:
        SpinetError: as `load_config` does.
    """
    if not isinstance(content, Mapping):
        raise SpinetError(f"{where}: expected keys and values. Received: {_described(content)}")
    kinds = get_type_hints(cls, include_extras=True)
    values = {}
    for key, value in content.items():
        if key not in kinds:
            nearest = difflib.get_close_matches(str(key), kinds, n=1, cutoff=0)[0]
            raise SpinetError(f"{where}: unknown key {key!r}. Did you mean {nearest!r}? Known keys: {', '.join(kinds)}")
        kind = kinds[key]
        if get_origin(kind) is not Annotated:
            values[key] = read_settings(kind, value, f"{where}: {key}")
            continue
        base, read = get_args(kind)
        if value is None and types.NoneType in get_args(base):
            values[key] = None
            continue
        try:
            values[key] = read(value)
        except _UnfitError as unfit:
            raise SpinetError(f"{where}: {key}: expected {unfit}. Received: {_described(value)}") from None
    return cls(**values)


def _described(value: Any) -> str:
    kinds = {str: "text", bool: "true or false", type(None): "nothing", list: "a list", dict: "keys and values"}
    kind = kinds.get(type(value))
    return repr(value) + (f" ({kind})" if kind else "")


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value
