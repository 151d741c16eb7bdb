"""The networks that can be trained to segment, by name."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from spinet_tf import RAMS, DeepLabV3, DeepSUM, HighResNet, SPInet
from spinet_tf.errors import SpinetError
from spinet_tf.models import FixedLength

SYSTEMS: dict[str, type[keras.Model]] = {
    "spinet": SPInet,
    "deeplabv3": DeepLabV3,
    "highresnet": HighResNet,
    "rams": RAMS,
    "deepsum": DeepSUM,
}


def build_system(system: str, sizes: Mapping[str, Any], **common: Any) -> keras.Model:
    """Build a network other than `SPInet`, one that takes ragged series.

    Args:
        system: its name in `SYSTEMS`.
        sizes: arguments of its class that the configuration gives.
        common: arguments that all classes have.

    Returns:
        The network; inside a `FixedLength` where it takes a fixed number of frames.
    """
    model = SYSTEMS[system](**common, **sizes)
    return FixedLength(model) if fixed_frames(system) else model


def require_settings(system: str, sizes: Iterable[str], common: Iterable[str]) -> None:
    """Raise a SpinetError if a setting is no argument of the system's class."""
    known = [name for name in inspect.signature(SYSTEMS[system]).parameters if name not in (*common, "name")]
    for name in sizes:
        if name not in known:
            raise SpinetError(f"Expected settings of {system} out of {', '.join(known)}. Received: {name}")


def fixed_frames(system: str) -> int | None:
    """How many frames a network takes unless told otherwise; None where it takes any number."""
    frames = inspect.signature(SYSTEMS[system]).parameters.get("frames")
    return frames.default if frames else None
