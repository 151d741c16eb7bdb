"""SPInet in Keras 3: 2.5 m maps of cultivated land from ragged Sentinel-2 time series."""

from spinet_tf._quiet import quiet_import

with quiet_import():
    import keras  # noqa: F401

from spinet_tf import layers, models
from spinet_tf._version import __version__
from spinet_tf.bands import BANDS
from spinet_tf.errors import SpinetError
from spinet_tf.models import PIUnet, SPInet

__all__ = ["BANDS", "PIUnet", "SPInet", "SpinetError", "__version__", "layers", "models"]
