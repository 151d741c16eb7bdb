"""Scenes in, maps out: tiling, blending and writing, around any engine that turns images into probabilities."""

from spinet_tf.inference.engines import open_engine
from spinet_tf.inference.geotiff import write_cog
from spinet_tf.inference.model import load_model
from spinet_tf.inference.scene import predict_scene

__all__ = ["load_model", "open_engine", "predict_scene", "write_cog"]
