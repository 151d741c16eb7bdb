"""SPInet in Keras 3: 2.5 m maps of cultivated land from ragged Sentinel-2 time series."""

import os

# Before Keras imports its backend: TensorFlow reads this once. Users who set it themselves keep their choice.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from spinet_tf._version import __version__

__all__ = ["__version__"]
