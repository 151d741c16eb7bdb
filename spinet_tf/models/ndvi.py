"""The baseline of the AI4EO challenge: two thresholds on the mean NDVI."""

import warnings
from collections.abc import Iterable

import keras
import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.metrics import matthews_corrcoef_from_counts

# Frames with more valid pixels than this count; without any, so many of the clearest do.
_CLEAR = 0.95
_FALLBACK = 5

# Candidate thresholds: every 0.001.
_EDGES = np.round(np.linspace(-1, 1, 2001), 3)


class NDVIThresholds:
    """Calls land cultivated where the mean NDVI of the clear frames lies between two thresholds.

    The thresholds are the challenge's until `fit` has chosen better ones.

    Args:
        low: NDVI must exceed this.
        high: NDVI must not exceed this.
        scale: how many times finer the map is than the images.

    Raises:
        SpinetError: if `low` is not below `high`.

    Example:
        baseline = NDVIThresholds().fit([(red, nir, valid, label)])
        cultivated = baseline.predict(red, nir, valid)

    Reference: the baseline of the AI4EO challenge, https://platform.ai4eo.eu/enhanced-sentinel2-agriculture-permanent
    """

    def __init__(self, low: float = 0.4, high: float = 0.6, scale: int = 4):
        if not low < high:
            raise SpinetError(f"Expected a lower threshold below the upper one. Received: {low} and {high}")
        self.low = low
        self.high = high
        self.scale = scale

    def fit(self, scenes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> "NDVIThresholds":
        """Choose the thresholds, to 0.001, that give the highest Matthews' correlation over all scenes together.

        Args:
            scenes: (red, nir, valid, label) of each: the first three as for `predict`, and label (scale * height,
                scale * width), 1 cultivated, 0 not, anything else unknown. They are gone through once.

        Returns:
            The object itself.

        Raises:
            SpinetError: if the labels do not hold both classes, or are not `scale` times finer than the images.
        """
        cultivated, other = np.zeros(len(_EDGES)), np.zeros(len(_EDGES))
        for red, nir, valid, label in scenes:
            ndvi = mean_ndvi(red, nir, valid, self.scale)
            if ndvi.shape != label.shape:
                raise SpinetError(f"Expected a label of shape {ndvi.shape}. Received: {label.shape}")
            cultivated += _histogram(ndvi[label == 1])
            other += _histogram(ndvi[label == 0])
        if not (cultivated.any() and other.any()):
            raise SpinetError("Expected labels with cultivated and other land to fit NDVI thresholds. Add scenes.")

        # How many pixels lie at or below each edge.
        cultivated, other = np.cumsum(cultivated), np.cumsum(other)
        best = -np.inf
        for i in range(len(_EDGES) - 1):
            tp, fp = cultivated[i + 1 :] - cultivated[i], other[i + 1 :] - other[i]
            scores = matthews_corrcoef_from_counts(tp, fp, cultivated[-1] - tp, other[-1] - fp)
            j = int(np.argmax(scores))
            if scores[j] > best:
                best = scores[j]
                self.low, self.high = float(_EDGES[i]), float(_EDGES[i + 1 + j])
        return self

    def predict(self, red: np.ndarray, nir: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Map cultivated land.

        Args:
            red: B04, (time, height, width), digital numbers or reflectance; 0 is no data.
            nir: B08, likewise.
            valid: bool (time, height, width), true where clear ground was seen.

        Returns:
            bool (scale * height, scale * width).

        Raises:
            SpinetError: if no frame has a valid pixel.
        """
        ndvi = mean_ndvi(red, nir, valid, self.scale)
        return (ndvi > np.float32(self.low)) & (ndvi <= np.float32(self.high))


def mean_ndvi(red: np.ndarray, nir: np.ndarray, valid: np.ndarray, scale: int = 4) -> np.ndarray:
    """The mean NDVI of the clear frames, upsampled bicubically.

    Clear frames are those with more than 95 % valid pixels. Where there is none, a warning says so, and the valid
    pixels of the five clearest count. Pixels without data count in no frame; where no frame has any, the result is 0.

    Upsampling uses Keys' kernel with a = -0.5, centres of pixels half a pixel from the edge, as PIL's does.

    Args:
        red: B04, (time, height, width), digital numbers or reflectance; 0 is no data.
        nir: B08, likewise.
        valid: bool (time, height, width), true where clear ground was seen.
        scale: how many times finer the result is.

    Returns:
        float32 (scale * height, scale * width), (B08 - B04) / (B08 + B04), -1 to 1.

    Raises:
        SpinetError: if no frame has a valid pixel, or the arrays differ in shape.

    Example:
        ndvi = mean_ndvi(*scene["bands"].sel(band=["B04", "B08"]).transpose("band", ...).values, scene["valid"].values)
    """
    if not red.shape == nir.shape == valid.shape or red.ndim != 3:
        raise SpinetError(
            f"Expected red, nir and valid as (time, height, width). Received: {red.shape}, {nir.shape}, {valid.shape}"
        )
    clear = valid.mean(axis=(1, 2))
    if not clear.any():
        raise SpinetError(f"Expected a frame with valid pixels. Received: {len(clear)} frames without any. Add dates.")
    frames = np.flatnonzero(clear > _CLEAR)
    red, nir = red.astype("float64"), nir.astype("float64")
    counted = red + nir > 0
    if not frames.size:
        frames = np.argsort(-clear, kind="stable")[:_FALLBACK]
        counted &= valid
        warnings.warn(
            f"No frame has more than {_CLEAR:.0%} valid pixels: the NDVI is that of the valid pixels of the "
            f"{len(frames)} clearest, {clear[frames[-1]]:.0%} to {clear[frames[0]]:.0%} valid.",
            stacklevel=2,
        )
    red, nir, counted = red[frames], nir[frames], counted[frames]
    ndvi = np.divide(nir - red, nir + red, out=np.zeros_like(red), where=counted)
    mean = ndvi.sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
    height, width = mean.shape
    fine = keras.ops.image.resize(
        mean[..., None].astype("float32"), (scale * height, scale * width), "bicubic", data_format="channels_last"
    )
    # Between strong contrasts bicubic interpolation overshoots.
    return np.clip(keras.ops.convert_to_numpy(fine)[..., 0], -1, 1)


def _histogram(ndvi: np.ndarray) -> np.ndarray:
    """How many values lie in each interval (edge before, edge]."""
    # In float32, as predictions are compared.
    return np.bincount(np.searchsorted(_EDGES.astype("float32"), ndvi, side="left"), minlength=len(_EDGES))
