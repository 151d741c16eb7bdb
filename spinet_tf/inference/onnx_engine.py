"""An ONNX file as an engine."""

import json
import os

import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import answer_names, stacked
from spinet_tf.tiling import Means


class OnnxEngine:
    """An ONNX file run by ONNX Runtime, behind the interface of `KerasEngine`.

    Args:
        path: the file, as `export.onnx` writes it.

    Attributes:
        band_names: the bands it takes, in order; None where it does not name them.
        scale: how many times finer its answer is than its input.
        bands: how many bands it takes.
        takes_means: whether tiles can be answered with the means of their scene.
        gives_uncertainty: whether the model says how uncertain its answers are.

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
            options = onnxruntime.SessionOptions()
            # It warns of every input that may be left out.
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            metadata = self._session.get_modelmeta().custom_metadata_map
            names = json.loads(metadata["bands"])
            self.band_names = None if names is None else tuple(names)
            self.scale = int(metadata["scale"])
            self.bands = self._session.get_inputs()[0].shape[-1]
            outputs = [output.name for output in self._session.get_outputs()]
            self.takes_means = "own_block_means" in outputs
            self.gives_uncertainty = "uncertainty" in outputs
        # ONNX Runtime's errors share no base class but this.
        except Exception as error:
            raise SpinetError(f"Cannot load {path} as an ONNX file of export.onnx: {error}") from error

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """As `KerasEngine.predict`."""
        return self._answer({"images": images, "num_frames": num_frames}, uncertainty)

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """Return the means that TEFA and TERN take over each tile."""
        names = ["own_block_means", "own_frame_means"]
        return Means(*self._session.run(names, {"images": images, "num_frames": num_frames}))

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Return what `predict` does, with means from elsewhere."""
        given = {"block_means": np.ascontiguousarray(means.blocks), "frame_means": means.frames}
        return self._answer({"images": images, "num_frames": num_frames, **given}, uncertainty)

    def _answer(self, inputs: dict[str, np.ndarray], uncertainty: bool) -> np.ndarray:
        names = answer_names(uncertainty)
        return stacked(dict(zip(names, self._session.run(names, inputs), strict=True)), uncertainty)


def not_installed(error: ImportError) -> SpinetError:
    """What to tell the user when a package for ONNX is missing."""
    return SpinetError(f"ONNX needs packages that are not installed ({error}). Run: pip install 'spinet-tf[onnx]'")
