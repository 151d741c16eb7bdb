"""The layers of SPInet and PIUnet, one per file, in the order data meets them."""

from spinet_tf.layers.bicubic_upsampling import BicubicUpsampling
from spinet_tf.layers.bilinear_upsampling import BilinearUpsampling
from spinet_tf.layers.equivariant_unit import EquivariantUnit
from spinet_tf.layers.logit_normal import LogitNormal
from spinet_tf.layers.masked_batch_normalization import MaskedBatchNormalization
from spinet_tf.layers.multi_resolution_fusion import MultiResolutionFusion
from spinet_tf.layers.pixel_shuffle import PixelShuffle
from spinet_tf.layers.plain_fusion import PlainFusion
from spinet_tf.layers.reflectance_normalization import ReflectanceNormalization
from spinet_tf.layers.tefa import TEFA
from spinet_tf.layers.temporal_attention import TemporalAttention
from spinet_tf.layers.temporal_mean import TemporalMean
from spinet_tf.layers.tern import TERN

__all__ = [
    "TEFA",
    "TERN",
    "BicubicUpsampling",
    "BilinearUpsampling",
    "EquivariantUnit",
    "LogitNormal",
    "MaskedBatchNormalization",
    "MultiResolutionFusion",
    "PixelShuffle",
    "PlainFusion",
    "ReflectanceNormalization",
    "TemporalAttention",
    "TemporalMean",
]
