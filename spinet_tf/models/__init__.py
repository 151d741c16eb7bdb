"""SPInet, and the systems it is compared with."""

from spinet_tf.models.backbone import rematerialize
from spinet_tf.models.deeplab import DeepLabV3
from spinet_tf.models.deepsum import DeepSUM
from spinet_tf.models.fixed_length import FixedLength
from spinet_tf.models.highresnet import HighResNet
from spinet_tf.models.ndvi import NDVIThresholds, mean_ndvi
from spinet_tf.models.piunet import PIUnet
from spinet_tf.models.rams import RAMS
from spinet_tf.models.spinet import SPInet

__all__ = [
    "RAMS",
    "DeepLabV3",
    "DeepSUM",
    "FixedLength",
    "HighResNet",
    "NDVIThresholds",
    "PIUnet",
    "SPInet",
    "mean_ndvi",
    "rematerialize",
]
