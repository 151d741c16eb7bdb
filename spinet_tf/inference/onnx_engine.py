"""An ONNX file as an engine."""

import json
import os

import numpy as np

from spinet_tf.errors import SpinetError


class OnnxEngine:
    """An ONNX file run by ONNX Runtime, behind the interface of `KerasEngine`.

    Args:
        path: the file, as `export.onnx` writes it.

    Attributes:
        band_names: the bands it takes, in order; None where it does not name them.
        scale: how many times finer its answer is than its input.
        bands: how many bands it takes.

    Raises:
        SpinetError: if ONNX Runtime is not installed, or cannot load the file.

    Example:
        OnnxEngine("spinet.onnx").predict(images, num_frames)
    """

    def __init__(self, path: str | os.PathLike):
        try:
            import onnxruntime
        except ImportError as error:
            raise not_installed(error) from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            names = json.loads(metadata["bands"])
            self.band_names = None if names is None else tuple(names)
            self.scale = int(metadata["scale"])
            self.bands = self._session.get_inputs()[0].shape[-1]
        # ONNX Runtime's errors share no base class but this.
        except Exception as error:
            raise SpinetError(f"Cannot load {path} as an ONNX file of export.onnx: {error}") from error

    def predict(self, images: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
        """Return the probabilities, float32 (batch, scale * h, scale * w, 1)."""
        return self._session.run(["probabilities"], {"images": images, "num_frames": num_frames})[0]


def not_installed(error: ImportError) -> SpinetError:
    """What to tell the user when a package for ONNX is missing."""
    return SpinetError(f"ONNX needs packages that are not installed ({error}). Run: pip install 'spinet-tf[onnx]'")
