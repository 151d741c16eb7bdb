"""Training that starts from a trained model: its network, its bands and its weights."""

import dataclasses
from pathlib import Path

from spinet_tf import SPInet
from spinet_tf.errors import SpinetError
from spinet_tf.inference.model import load_model
from spinet_tf.models.presets import PRESETS, preset_path
from training.config import Config


def load_start(start: str) -> SPInet:
    """Load what a configuration's `start` names.

    Args:
        start: the name of a preset, or a `.keras` file.

    Returns:
        The model, not compiled.

    Raises:
        SpinetError: if there is no such model, or it is not a `SPInet` that knows its bands.

    Example:
        load_start("tiny-simulated").band_names
    """
    if start not in PRESETS and not Path(start).exists():
        raise SpinetError(
            f"Expected `start` to be a preset ({', '.join(PRESETS)}) or a .keras file. Received: {start}, which is not "
            "there."
        )
    model = load_model(preset_path(start) if start in PRESETS else start)
    if not isinstance(model, SPInet) or model.band_names is None:
        raise SpinetError(
            f"Expected `start` to be a SPInet that knows the names of its bands. {start} is a {type(model).__name__}"
            + (" without names" if isinstance(model, SPInet) else "")
            + ". Choose another model, or leave `start` out."
        )
    return model


def with_start_bands(config: Config) -> Config:
    """A configuration with the bands of the model that it starts from; as it is where it starts from none.

    Raises:
        SpinetError: if it names other bands, or the model cannot be used.
    """
    if config.start is None:
        return config
    bands = load_start(config.start).band_names
    if config.bands not in (None, bands):
        raise SpinetError(
            f"Expected bands {', '.join(bands)}, those of {config.start}. Received: {', '.join(config.bands)}. Leave "
            "`bands` out, or start from another model."
        )
    return dataclasses.replace(config, bands=bands)


def build_from_start(start: str, scale: int, dtype: str) -> SPInet:
    """Build the network to start from, with its weights and its normalisation, to compute in a dtype policy.

    Args:
        start: see `load_start`.
        scale: how many times finer labels are than images.
        dtype: name of the policy, which may differ from the one that the model was trained with.

    Returns:
        The model, not compiled.

    Raises:
        SpinetError: if the model makes maps of another scale, or cannot be used.

    Example:
        build_from_start("tiny-simulated", scale=4, dtype="mixed_bfloat16")
    """
    trained = load_start(start)
    if trained.scale != scale:
        raise SpinetError(
            f"Expected labels {trained.scale} times finer than the images, as the maps of {start} are. Received: "
            f"{scale} times. Choose other scenes, or start from another model."
        )
    model = SPInet.from_config({**trained.get_config(), "dtype": dtype})
    model.set_weights(trained.get_weights())
    return model
