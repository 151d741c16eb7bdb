"""SPInet, and the systems it is compared with."""

from spinet_tf.models.piunet import PIUnet
from spinet_tf.models.spinet import SPInet

__all__ = ["PIUnet", "SPInet"]
