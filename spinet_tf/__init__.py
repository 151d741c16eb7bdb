"""SPInet in Keras 3: 2.5 m maps of cultivated land from ragged Sentinel-2 time series."""

import importlib

from spinet_tf._quiet import quiet_import

with quiet_import():
    import keras  # noqa: F401

from spinet_tf import interop, layers, losses, metrics, models
from spinet_tf._version import __version__
from spinet_tf.bands import BANDS
from spinet_tf.errors import SpinetError
from spinet_tf.models import RAMS, DeepLabV3, DeepSUM, HighResNet, PIUnet, SPInet

__all__ = [
    "BANDS",
    "RAMS",
    "DeepLabV3",
    "DeepSUM",
    "HighResNet",
    "PIUnet",
    "SPInet",
    "SpinetError",
    "__version__",
    "data",
    "inference",
    "interop",
    "layers",
    "losses",
    "metrics",
    "models",
    "predict_scene",
]


def __getattr__(name):
    # These need the packages of the geo extra, so they are imported when first used.
    if name in ("data", "inference"):
        return importlib.import_module(f"spinet_tf.{name}")
    if name == "predict_scene":
        return importlib.import_module("spinet_tf.inference").predict_scene
    raise AttributeError(f"module 'spinet_tf' has no attribute {name!r}")
